import pytest

from mesh.adapters.native.config import DEFAULT_INPUTS, load, parse
from mesh.adapters.native.values import Shards
from mesh.errors import UsageError
from mesh.graph import Resources


def problems(text):
    return [f"{problem.line}: {problem.text}" for problem in sorted(parse(text.encode()).problems)]


def the_problem(text):
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


def test_every_key_of_a_task_is_read():
    config = parse(b"""
[tasks.t]
command = ["a", "b"]
deps = ["u"]
inputs = ["src/**", "!**/*.md"]
outputs = ["dist/**"]
env = { A = "1" }
pass_env = ["CI"]
secret_env = ["TOKEN"]
cache = false
cwd = "sub"
timeout = "1h30m"
retries = 2
runs_on = ["gpu"]
resources = { cpu = 2, memory = "4GB", gpu = 1 }
mutex = "db"
allow_failure = true
where = "main"
description = "what it does"
each = "packages/*/x"
shards = 3
""")
    assert config.problems == ()
    task = config.tasks["t"]
    assert task.command == ("a", "b")
    assert (task.deps, task.inputs, task.outputs) == (("u",), ("src/**", "!**/*.md"), ("dist/**",))
    assert (task.env, task.pass_env, task.secret_env) == ({"A": "1"}, ("CI",), ("TOKEN",))
    assert (task.cache, task.cwd, task.timeout, task.retries, task.runs_on) == (False, "sub", 5_400_000, 2, ("gpu",))
    assert task.resources == Resources(cpu=2, memory_bytes=4_000_000_000, gpu=1)
    assert (task.mutex, task.allow_failure, task.where, task.description) == ("db", True, "main", "what it does")
    assert (task.each, task.shards) == (("packages/*/x",), Shards(3))


def test_a_task_inherits_defaults_and_adds_to_their_tables():
    text = b"""
[defaults]
inputs = ["**"]
timeout = "10m"
env = { A = "1", B = "1" }
resources = { cpu = 2 }
[tasks.t]
command = "x"
env = { B = "2" }
resources = { memory = "1GiB" }
timeout = 0
[tasks.u]
command = "x"
"""
    tasks = parse(text).tasks
    assert tasks["t"].env == {"A": "1", "B": "2"}
    assert tasks["t"].resources == Resources(cpu=2, memory_bytes=2**30)
    assert (tasks["t"].timeout, tasks["u"].timeout) == (0, 600_000)
    assert tasks["u"].inputs == ("**",)


def test_without_inputs_everything_but_the_task_file_is_one():
    assert parse(b'[tasks.t]\ncommand = "x"').tasks["t"].inputs == DEFAULT_INPUTS


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [('"10m"', 600_000), ('"90s"', 90_000), ('"1h 30m"', 5_400_000), ("45", 45_000), ('"500ms"', 500), ("0", 0)],
)
def test_a_time_out_is_a_duration_or_seconds(value, milliseconds):
    assert parse(f'[tasks.t]\ncommand = "x"\ntimeout = {value}'.encode()).tasks["t"].timeout == milliseconds


@pytest.mark.parametrize(
    ("value", "size"),
    [('"4GB"', 4 * 10**9), ('"512MiB"', 512 * 2**20), ('"2g"', 2 * 10**9), ("1024", 1024), ('"10 KB"', 10_000)],
)
def test_memory_is_a_size_with_a_unit_or_bytes(value, size):
    config = parse(f'[tasks.t]\ncommand = "x"\nresources.memory = {value}'.encode())
    assert config.problems == ()
    assert config.tasks["t"].resources.memory_bytes == size


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('dependsOn = ["a"]', "`dependsOn` is called `deps` here"),
        ('sources = ["a"]', "is called `inputs` here"),
        ('generates = ["a"]', "is called `outputs` here"),
        ('outs = ["a"]', "is called `outputs` here"),
        ('dir = "a"', "is called `cwd` here"),
        ('working-directory = "a"', "is called `cwd` here"),
        ('passThroughEnv = ["a"]', "is called `secret_env` here"),
        ("retryCount = 1", "is called `retries` here"),
        ('runs-on = "a"', "is called `runs_on` here"),
        ("timeout-minutes = 1", "is called `timeout` here"),
        ('needs = ["a"]', "is called `deps` here"),
        ('artifacts = ["a"]', "is called `outputs` here"),
        ('inptus = ["a"]', "did you mean `inputs`?"),
        ("Cache = true", "did you mean `cache`?"),
        ("xyzzy = 1", "is not known; there are command, deps,"),
        ('deps = "a"', "a list of strings (deps = [\"build\"]) was expected, not 'a'"),
        ('deps = ["^build"]', "there is no `^`"),
        ('env = ["A"]', "names whose value main has go into `pass_env`"),
        ("env = { A = 1 }", 'write A = "1"'),
        ('env = { DTE_SECRET = "x" }', "belong to dte"),
        ('pass_env = ["A=1"]', "its value is taken from main's environment"),
        ('pass_env = { A = "1" }', "go into `env`"),
        ('cache = "yes"', "true or false was expected, not 'yes'"),
        ('timeout = "soon"', '"10m"'),
        ("timeout = true", '"10m"'),
        ('timeout = "8000h"', "at most a week"),
        ("timeout = -1", "at most a week"),
        ("retries = 11", "from 0 to 10"),
        ("retries = true", "from 0 to 10"),
        ('runs_on = "gpu"', 'runs_on = ["linux", "gpu"]'),
        ("resources = { cpu = 0 }", "cpu: a whole number from 1"),
        ('resources = { memory = "lots" }', "memory: a size was expected"),
        ("resources = { disk = 1 }", "`disk` is not known; there are cpu, memory, gpu"),
        ('where = "here"', '"any", "main" or "agent"'),
        ('inputs = ["../x"]', "`..` could leave the workspace"),
        ('inputs = ["~/x"]', "leaves the workspace"),
        ('inputs = [""]', "a string was expected"),
        ('inputs = ["!x"]', "only takes away"),
        ('inputs = ["[z-a]"]', "is not understood"),
        ('outputs = ["C:/x"]', "leaves the workspace"),
        ('cwd = "../x"', "leaves the workspace"),
        ('each = ""', "a string was expected"),
        ("each = []", "a glob of files"),
        ("shards = 0", "a number from 1 to"),
        ('shards = { files = "t/**" }', "`max` is missing"),
        ('shards = { files = "../t", max = 2 }', "files: glob"),
        ('shards = { files = "t/**", max = "2" }', "max: a whole number"),
        ("command.x = 1", "a command for the shell"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_do(line, says):
    command = "" if line.startswith("command") else 'command = "x"'
    found = the_problem(f"[tasks.t]\n{command}\n# a comment\n{line}\n")
    assert found.startswith("4: tasks.t")
    assert says in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[pipeline.t]\ncommand = "x"', "1: `pipeline` is called `[tasks.NAME]` here"),
        ('[task.t]\ncommand = "x"', "1: `task` is called"),
        ('[tasks.t]\ncommand = "x"\n[default]\n', "3: `default` is called `[defaults]` here"),
        ('[tasks.t]\ncommand = "x"\n[other]\n', "3: `other` is not known; there are [tasks.NAME], [defaults]"),
        ('[tasks.t]\ncommand = "x"\n[defaults]\noutputs = ["a"]', "4: `outputs` belongs to one task"),
        ("[tasks.t]\n", "1: tasks.t has no command"),
        ('[tasks]\nt = "make"', "2: `tasks.t` must be a table"),
        ('[tasks."a:b"]\ncommand = "x"', "1: task name 'a:b'"),
        ("", "1: names no task"),
        ('[tasks.t]\ncommand = "x\n', "2: is not TOML"),
        (
            '[tasks.t]\ncommand = ["x", "{files}.txt"]\nshards = {files = "a", max = 2}',
            '"{files}" must be an argument of its own',
        ),
        ('[tasks.t]\ncommand = "x {files}"\nshards = 3', "{files} needs"),
        (
            '[tasks.t]\ncommand = "x"\nshards = {files = "a", max = 2}',
            "2: `shards.files` divides files, but the command has no {files}",
        ),
        ('[tasks.t]\ncmds = ["x"]', "2: tasks.t: `cmds` is called `command` here"),
        ('[tasks.t]\ncommand = [["a"], ["b"]]', "one command was expected"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_says_where(text, says):
    found = problems(text)
    assert any(says in problem for problem in found), found
    assert len(found) == 1 or "has no command" in "".join(found)


@pytest.mark.parametrize(("other", "line"), [('pass_env = ["TOKEN"]', 4), ('env = { TOKEN = "x" }', 4)])
def test_a_secret_may_not_be_written_down_or_sent(other, line):
    found = the_problem(f'[tasks.t]\ncommand = "x"\nsecret_env = ["TOKEN"]\n{other}')
    assert found.startswith(f"{line}: tasks.t: TOKEN is in")
    inherited = the_problem(f'[defaults]\n{other}\n[tasks.t]\ncommand = "x"\nsecret_env = ["TOKEN"]')
    assert inherited.startswith("5: tasks.t: TOKEN is in")


def test_an_item_of_a_list_is_told_with_its_own_line():
    found = the_problem('[tasks.t]\ncommand = "x"\ninputs = [\n  "a",\n  "../b",\n]')
    assert found.startswith("5:")


def test_all_mistakes_are_told_at_once(tmp_path):
    (tmp_path / "dte.toml").write_text(
        '[tasks.a]\ncmd = "x"\nretries = -1\n[tasks.b]\ncommand = "x"\ncache = 1\n[what]\n'
    )
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["dte.toml:2", "dte.toml:3", "dte.toml:6", "dte.toml:7"]


def test_a_missing_file_says_what_to_write(tmp_path):
    with pytest.raises(UsageError, match=r"there is no dte.toml in .*docs/guide/tasks.md"):
        load(tmp_path)


def test_bytes_that_are_no_text_are_told_with_their_line():
    assert parse(b"[tasks.t]\n# \xff\n").problems[0].line == 2


def test_two_spellings_of_one_definition_are_equal():
    one = parse(b'[tasks.t]\ncommand = "x"\nenv = { A = "1" }\ntimeout = "1m"').tasks["t"]
    other = parse(b'# moved\n\n[tasks.t]\ntimeout = 60\nenv.A = "1"\ncommand = "x"').tasks["t"]
    assert one == other

"""From turbo's dry run to the mesh's graph: what may run anywhere, what stays, and how what differs is named."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.adapters.turbo.command import TurboCommand
from mesh.adapters.turbo.dry_run import DryRun, DryTask
from mesh.adapters.turbo.plan import TurboPlan, _kept, _nothing_to_give, _said_against, differing, marked, packed
from mesh.errors import RemoteError
from mesh.graph import Graph


def raw(name: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    package, _, task = name.partition("#")
    definition = {"cache": True, "persistent": False, "inputs": [], **more.pop("definition", {})}
    return {
        "taskId": name,
        "task": task,
        "package": package,
        "hash": f"hash of {name}",
        "command": f"do {task}",
        "directory": f"packages/{package}",
        "dependencies": list(dependencies),
        "with": [],
        "outputs": ["dist/**", "!dist/x"],
        "logFile": f"packages/{package}/.turbo/turbo-{task}.log",
        "cache": {"local": False},
        "inputs": {"src/index.js": "aaaa"},
        "hashOfExternalDependencies": "e",
        "resolvedTaskDefinition": definition,
        "environmentVariables": {"specified": {"env": ["MODE"]}, "configured": ["MODE=abc"], "inferred": []},
        **more,
    }


def dry(*tasks: dict[str, Any], **more: Any) -> DryRun:
    return DryRun.from_json(
        {
            "turboVersion": "2.11.11",
            "envMode": "strict",
            "frameworkInference": True,
            "globalCacheInputs": {
                "hashOfExternalDependencies": "g",
                "files": {"tsconfig.json": "bbbb"},
                "environmentVariables": {
                    "specified": {"env": ["FLAVOUR"]},
                    "configured": None,
                    "inferred": ["NEXT_PUBLIC_A=1"],
                },
            },
            "tasks": list(tasks),
            **more,
        }
    )


def kept(run: DryRun, folder: Path) -> dict[str, str]:
    (folder / ".gitignore").write_text("dist\n.turbo\n")
    return trio.run(_kept, run, folder)[0]


def where(run: DryRun, folder: Path) -> dict[str, str]:
    """Where each task may run, its outputs being ignored."""
    graph = TurboPlan(run, kept=kept(run, folder)).to_graph()
    return {str(task.id): task.where for task in graph.tasks.values()}


def test_a_cacheable_task_may_run_anywhere_under_turbos_hash(tmp_path: Path):
    run = dry(raw("a#build"))
    assert where(run, tmp_path) == {"a#build": "any"}
    task = TurboPlan(run).to_graph().tasks["a#build"]
    assert (task.key, task.tool, task.resources.cpu) == ("hash of a#build", "turbo", 1)
    assert task.outputs == ("packages/a/dist/**", "!packages/a/dist/x")


def test_what_is_not_cached_and_all_behind_it_stays_without_taking_a_slot(tmp_path: Path):
    run = dry(
        raw("c#test", "b#deploy"),
        raw("b#deploy", "a#build", definition={"cache": False}),
        raw("d#test", "c#test"),
        raw("a#build"),
        raw("e#build", "a#build"),
    )
    stays = dict.fromkeys(("b#deploy", "c#test", "d#test"), "main")
    assert where(run, tmp_path) == {"a#build": "any", "e#build": "any", **stays}
    task = TurboPlan(run, kept=kept(run, tmp_path)).to_graph().tasks["b#deploy"]
    assert task.resources.cpu == 0


@pytest.mark.parametrize(
    "more",
    [{"definition": {"persistent": True}}, {"definition": {"interactive": True}}, {"with": ["b#serve"]}],
)
def test_what_runs_on_or_beside_others_stays(tmp_path: Path, more: dict[str, Any]):
    assert where(dry(raw("a#serve", **more)), tmp_path) == {"a#serve": "main"}


def test_nodes_in_which_nothing_happens_are_no_tasks_but_lead_on(tmp_path: Path):
    nothing = {"command": "<NONEXISTENT>", "definition": {"cache": False}}
    run = dry(
        raw("d#build", "c#build", "b#build"),
        raw("c#build", "b#build", **nothing),
        raw("b#build", "a#build", **nothing),
        raw("a#build"),
    )
    graph = TurboPlan(run, kept=kept(run, tmp_path)).to_graph()
    assert {task.id: task.deps for task in graph.tasks.values()} == {"a#build": (), "d#build": ("a#build",)}
    assert graph.tasks["d#build"].where == "any"


def test_what_is_at_hand_stays_and_what_is_behind_it_does_not(tmp_path: Path):
    run = dry(raw("a#build", cache={"local": True}), raw("b#build", "a#build"))
    plan = TurboPlan(run)
    assert plan.local() == ("a#build",)
    graph = plan.to_graph(plan.local())
    assert [task.where for task in graph.tasks.values()] == ["main", "any"]
    assert TurboPlan(run, signed=True).local() == ()


def test_there_must_be_something_to_give_away(tmp_path: Path):
    def reason(*tasks: dict[str, Any]) -> str:
        run = dry(*tasks)
        return _nothing_to_give(TurboPlan(run, kept=kept(run, tmp_path)))

    assert reason() == "there is nothing for turbo to run"
    assert reason(raw("a#build", command="<NONEXISTENT>")) == "there is nothing for turbo to run"
    assert "cache already" in reason(raw("a#build", cache={"local": True}))
    assert "a#x (and 1 more): turbo does not cache it" in reason(
        raw("a#x", definition={"cache": False}), raw("b#x", "a#x")
    )
    assert reason(raw("a#build"), raw("b#x", definition={"cache": False})) == ""


def test_a_graph_survives_the_wire_and_repeats_bytes(tmp_path: Path):
    graph = TurboPlan(dry(raw("a#build"), raw("b#build", "a#build")), passed=("--x",)).to_graph()
    assert Graph.decode(graph.encode()) == graph


def test_every_hashed_variable_is_known_by_name():
    assert dry(raw("a#build")).all_names() == ("FLAVOUR", "MODE", "NEXT_PUBLIC_A")


def test_what_cannot_be_read_is_refused():
    broken = raw("a#build")
    del broken["hash"]
    with pytest.raises(RemoteError):
        DryTask.from_json(broken)


@pytest.mark.parametrize(
    ("outputs", "reason", "advice"),
    [
        (["dist/**", "made.json"], "git does not ignore", "put it into .gitignore"),
        (["dist/**", "src/**"], "git does not ignore", "put it into .gitignore"),
        (["dist/**", "changed.json"], "git tracks", "take it out of the outputs in turbo.json"),
        (["dist/**", "*/package.json"], "git tracks", "take it out of the outputs in turbo.json"),
    ],
)
def test_what_counts_as_an_input_once_it_is_made_keeps_its_package_here_with_advice_that_helps(
    tmp_path: Path, outputs: list[str], reason: str, advice: str
):
    committed(tmp_path, "packages/a/package.json", "packages/a/src/package.json", "packages/a/changed.json")
    (tmp_path / "packages/a/changed.json").write_text("[]")
    found, notices = trio.run(_kept, dry(raw("a#build", outputs=outputs), raw("b#build", "a#build")), tmp_path)
    assert found["a#build"].startswith(reason)
    assert found["b#build"] == "it depends on a#build, which stays on the main job"
    assert f"{reason} packages/a/{outputs[1].replace('**', 'x')}, which" in notices[1]
    assert notices[1].endswith(advice)
    assert len(notices) == 2


@pytest.mark.parametrize("inputs", [[], ["src/**", "package.json"]])
def test_a_committed_file_among_the_outputs_keeps_nothing_here_while_nobody_has_changed_it(
    tmp_path: Path, inputs: list[str]
):
    committed(tmp_path, "packages/a/package.json")
    build = raw("a#build", outputs=["dist/**", "package.json"], definition={"inputs": inputs})
    assert trio.run(_kept, dry(build, raw("b#build", "a#build")), tmp_path) == ({}, ())


def committed(folder: Path, *places: str) -> None:
    (folder / ".gitignore").write_text("dist\n.turbo\n")
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("{}")
    who = ("-c", "user.email=a@b.c", "-c", "user.name=n")
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


@pytest.mark.parametrize(
    "inputs",
    [["dist/**"], ["dist/index.js"], ["**/*", "!src/**"], ["$TURBO_ROOT$/packages/a/dist/**"], ["../a/dist/**"]],
)
def test_inputs_that_name_what_another_task_makes_keep_a_task_and_all_behind_it_here(tmp_path: Path, inputs: list[str]):
    check = raw("a#check", "a#build", definition={"inputs": inputs}, outputs=[])
    run = dry(raw("a#build"), check, raw("a#push", "a#check"))
    assert where(run, tmp_path) == {"a#build": "any", "a#check": "main", "a#push": "main"}
    assert kept(run, tmp_path)["a#check"] == "its `inputs` name what another task makes (packages/a/dist/**)"


@pytest.mark.parametrize("inputs", [["src/**"], ["**/*", "!dist/**"], ["*.json"], ["$TURBO_DEFAULT$", "!dist/**"]])
def test_inputs_that_name_nothing_that_is_made_keep_nothing_here(tmp_path: Path, inputs: list[str]):
    run = dry(raw("a#build", definition={"inputs": inputs}), raw("b#build", "a#build", definition={"inputs": inputs}))
    assert not kept(run, tmp_path)


def test_a_task_that_takes_in_what_it_makes_runs_anywhere_and_what_is_behind_it_does_not(tmp_path: Path):
    run = dry(raw("a#build", definition={"inputs": ["**/*"]}), raw("b#build", "a#build"), raw("c#build", "b#build"))
    assert where(run, tmp_path) == {"a#build": "any", "b#build": "main", "c#build": "main"}
    assert "whose `inputs` name what it makes itself" in kept(run, tmp_path)["b#build"]


def test_of_a_list_of_outputs_for_all_packages_what_is_not_there_is_not_this_packages(tmp_path: Path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    lists = {"a": ["dist/**", "build/**", "docs/made/**"], "b": ["build/**"], "c": ["dist/**", "made.json"]}
    for package in lists:
        (tmp_path / "packages" / package).mkdir(parents=True)
    run = dry(*(raw(f"{package}#build", outputs=outputs) for package, outputs in lists.items()))
    assert [*kept(run, tmp_path)] == ["b#build", "c#build"]


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        ("run build", {}, ""),
        ("run build --cache=local:rw,remote:rw", {}, ""),
        ("run build --cache remote:rw", {}, ""),
        ("run build --force=false", {}, ""),
        ("run build --force", {}, "--force"),
        ("run build --cache=local:rw", {}, "'local:rw'"),
        ("run build --cache local:rw,remote:r", {}, "remote:rw"),
        ("run build", {"TURBO_CACHE": "local:r;remote:w"}, "remote:rw"),
        ("run build", {"TURBO_FORCE": "true"}, "TURBO_FORCE is set"),
        ("run build", {"TURBO_FORCE": "0"}, ""),
        ("run build", {"TURBO_REMOTE_CACHE_READ_ONLY": "1"}, "TURBO_REMOTE_CACHE_READ_ONLY is set"),
        ("run build --token=x", {}, "another remote cache"),
    ],
)
def test_what_is_said_against_passing_results_on_is_noticed(options: str, environ: dict[str, str], said: str):
    found = _said_against(TurboCommand(tuple(options.split())), environ)
    assert said in found
    assert bool(found) == bool(said)


def test_a_difference_of_inputs_is_named():
    main = packed({"a": "1", "b": "2", "c": "3"})
    assert differing(main, {"a": "1", "b": "2", "c": "3"}) == ()
    assert differing(main, {"a": "1", "b": "x", "c": "3", "d": "4"}) == ("b (another content)", "d (only here)")
    assert differing(main, {"a": "1"}) == ("2 file(s) of the main job that are not here",)
    many = differing("", {str(number): "" for number in range(9)})
    assert many == ("0 (only here)", "1 (only here)", "2 (only here)", "6 more")


def test_values_of_variables_are_compared_without_being_told():
    assert list(marked(("A=secret",), ("A=secret", "B=x"))) == ["A=2bb8", "B=2d71"]

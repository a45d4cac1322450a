import pytest

from mesh.adapters.native.lines import Lines

TEXT = '''\
# a comment with [brackets] and = signs
[defaults]
env = { A = "1", "B.C" = "2" }

[tasks.a]   # another
command = """
two
lines = 3
"""
deps = [
  "x",      # why
  # a gap

  "y", "z",
]
resources.memory = "4GB"
shards = { files = "t/**", max = 8 }
when = 1979-05-27 07:32:00

[tasks."b:c"]
'inputs' = [@@@
[x]
@@@, "q"]
[[odd]]
n = [[1, 2], [3.5]]
'''.replace("@@@", "'''")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("defaults",), 2),
        (("defaults", "env", "B.C"), 3),
        (("tasks",), 5),
        (("tasks", "a"), 5),
        (("tasks", "a", "command"), 6),
        (("tasks", "a", "deps"), 10),
        (("tasks", "a", "deps", 0), 11),
        (("tasks", "a", "deps", 1), 14),
        (("tasks", "a", "deps", 2), 14),
        (("tasks", "a", "resources", "memory"), 16),
        (("tasks", "a", "shards", "max"), 17),
        (("tasks", "a", "when"), 18),
        (("tasks", "b:c"), 20),
        (("tasks", "b:c", "inputs", 1), 23),
        (("odd", "n", 1, 0), 25),
        (("tasks", "a", "not-there", 3), 5),
        (("nowhere",), 1),
    ],
)
def test_a_value_is_found_on_its_line(path, line):
    assert Lines(TEXT).of(path) == line


def test_an_empty_file_has_a_first_line():
    assert Lines("").of(("tasks", "a")) == 1

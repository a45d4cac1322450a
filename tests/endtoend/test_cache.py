"""A second run does only what has changed, wherever the first one did it."""

from tests.endtoend.mesh_under_test import Machine, MakeSite, Running, Site, git, tree
from tests.endtoend.workspaces import toml

COUNTED = 'command = "echo $DTE_TASK >> $SITE/ran; mkdir -p out; cat {inputs} > out/{name}"\noutputs = ["out/{name}"]'


def task(name: str, inputs: str, deps: str = "") -> str:
    """A task that notes that it has run."""
    sources = ", ".join(f'"{path}"' for path in inputs.split() if not path.startswith("out/"))
    listed = ", ".join(f'"{dep}"' for dep in deps.split())
    return COUNTED.format(inputs=inputs, name=name) + f"\ninputs = [{sources}]\ndeps = [{listed}]"


FILES = {
    **toml(
        a=task("a", "source/a"),
        b=task("b", "source/b"),
        ab=task("ab", "out/a out/b", "a b"),
        c=task("c", "source/c"),
    ),
    "source/a": "a\n",
    "source/b": "b\n",
    "source/c": "c\n",
}


def ran(site: Site) -> list[str]:
    """What has run since the last question."""
    path = site.root / "ran"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def run(site: Site, machine: Machine, *arguments: str) -> Running:
    main = site.main(*arguments, on=machine, listen=False)
    assert main.ended() == 0, main.text
    return main


def test_a_second_run_takes_every_result_and_a_change_reruns_only_what_it_must(site_of: MakeSite) -> None:
    site = site_of(FILES)
    machine = site.machine("main")
    run(site, machine, "ab", "c")
    assert ran(site) == ["a", "ab", "b", "c"]
    first = tree(machine.workspace)
    git(machine.workspace, "clean", "-xdfq")
    second = run(site, machine, "ab", "c")
    assert ran(site) == []
    assert {task["cache"] for task in second.tasks.values()} == {"hit"}
    assert "4 tasks: 4 succeeded (4 from cache)" in second.text
    assert tree(machine.workspace) == first
    machine.write("source/a", "changed\n")
    third = run(site, machine, "ab", "c")
    assert ran(site) == ["a", "ab"]
    assert {name: task["cache"] for name, task in third.tasks.items()} == {
        "a": "none",
        "b": "hit",
        "ab": "none",
        "c": "hit",
    }
    assert (machine.workspace / "out/ab").read_text() == "changed\nb\n"


def test_what_was_made_behind_an_allowed_failure_is_never_taken_for_what_its_success_leads_to(
    site_of: MakeSite,
) -> None:
    site = site_of(
        toml(
            c="""command = "test -e $SITE/well && mkdir -p out/c && echo real > out/c/o"
outputs = ["out/c/**"]\nallow_failure = true\ncache = false""",
            d="""command = "mkdir -p out/d && cat out/c/o > out/d/p || echo none > out/d/p"
outputs = ["out/d/**"]\ndeps = ["c"]""",
            e='command = "mkdir -p out/e && cp out/d/p out/e/q"\noutputs = ["out/e/**"]\ndeps = ["d"]',
        )
    )
    machine = site.machine("main")

    def made() -> tuple[str, dict[str, str]]:
        main = run(site, machine, "e")
        caches = {name: task["cache"] for name, task in main.tasks.items()}
        return (machine.workspace / "out/e/q").read_text(), caches

    anew = {"c": "none", "d": "none", "e": "none"}
    assert made() == ("none\n", anew)
    site.tell("well")
    assert made() == ("real\n", anew)
    assert made() == ("real\n", {"c": "none", "d": "hit", "e": "hit"})
    (site.root / "well").unlink()
    assert made() == ("none\n", anew)


def test_what_an_agent_made_in_an_earlier_run_is_taken_from_it(site_of: MakeSite) -> None:
    site = site_of(FILES)
    machine, helper = site.machine("main"), site.machine("helper")
    for expected in (["a", "ab", "b", "c"], []):
        main = site.main("ab", "c", "--agent-wait", "60s", on=machine)
        agent = site.agent("helper", on=helper)
        assert (main.ended(), agent.ended()) == (0, 0)
        assert {task["where"] for task in main.tasks.values()} == {"helper"}
        assert ran(site) == expected
        # Another run on a main job that remembers nothing.
        machine = site.machine(f"main-{len(site.started)}")
    assert (site.root / "main-2/workspace").exists()
    assert {task["cache"] for task in main.tasks.values()} == {"hit"}


def test_affected_runs_what_a_change_reaches_and_nothing_else(site_of: MakeSite) -> None:
    site = site_of(FILES)
    machine = site.machine("main")
    machine.git("checkout", "--quiet", "-b", "change")
    machine.write("source/b", "changed\n")
    machine.git("commit", "--quiet", "--all", "--message=change")
    main = run(site, machine, "--affected", "--base", "main", "a", "b", "ab", "c")
    # `ab` needs `a`, which therefore runs too.
    assert ran(site) == ["a", "ab", "b"]
    assert sorted(main.tasks) == ["a", "ab", "b"]
    nothing = run(site, machine, "--affected", "--base", "HEAD", "a", "b", "ab", "c")
    assert (ran(site), nothing.tasks) == ([], {})
    assert "nothing to run: no change since HEAD reaches" in nothing.text

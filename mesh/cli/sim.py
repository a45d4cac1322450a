"""`dte sim`: whole meshes in one thread, under faults."""

import typer


def sim(
    seed: int = typer.Option(0, help="The first seed."),
    lives: int = typer.Option(1, help="How many seeds, one after the other."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object a life."),
) -> int:
    """Live through simulated runs. One seed is one life: the same on every machine."""
    from dataclasses import asdict

    from mesh.errors import Exit
    from mesh.sim import live
    from mesh.wire import canonical

    bad = 0
    for number in range(seed, seed + lives):
        life = live(number)
        bad += bool(life.problems)
        if json:
            print(canonical.encode(asdict(life)).decode())
        else:
            how = "; ".join(life.problems) or "holds"
            print(
                f"seed {life.seed}: {life.tasks} tasks, {life.executions} executions, {life.messages} messages, {life.verdict}: {how}"
            )
    return int(Exit.TASK_FAILED if bad else Exit.OK)

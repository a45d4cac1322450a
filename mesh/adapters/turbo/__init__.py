"""Turborepo: the user's own turbo on the main job, whose cache reads wait until an agent's turbo has done the task.

    command.py   which command is one of turbo's, and where its program is
    dry_run.py   what turbo would do here: tasks, hashes, inputs        environment.py   with which variables
    plan.py      the graph of that, and what of it has to stay          drift.py         where another checkout would do another thing
    session.py   the main job: turbo runs, prints and exits             runner.py        an agent: one task at a time by its id

All of it is what turbo documents or prints: `--dry=json`, `turbo config`, `turbo run PKG#TASK` and the protocol of its remote cache.
"""

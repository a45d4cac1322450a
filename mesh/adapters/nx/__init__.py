"""Nx: a shim in the user's own nx hands its plan to the mesh and shows the results; an nx kept running on each agent does single tasks.

    main.cjs     preloaded on the main job        ◀── session.py      plan.py  environment.py
    worker.cjs   kept running on each agent       ◀── runner.py       worker.py  ground.py
    single.cjs   one task, run by nx
    link.cjs     what all of them share           ◀── link.py

The shims reach into modules of nx that are not documented, but have been where they are from nx 20.8 to 24; docs/guide/nx.md says which.
"""

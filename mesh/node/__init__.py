"""One running peer: the only place where the core and the world meet.

settings    what a person asked for;  headstart  the wrapped command, started before all else
shell       events in, effects out: the loop around `Node.step`
links       dialling, accepting, one link per peer
transfers   blobs from whoever has them
tools       the runner of each tool, in this workspace
work        what the worker wants done: prepare, execute, kill
delivery    what the leader wants brought to the main job
logs        tasks' output on its way to the main job
peer        all of that put together for one run
agent       `dte join`;  main_job  `dte run`
"""

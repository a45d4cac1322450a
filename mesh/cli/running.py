"""A main job from the command line: its display, its files, and its exit code."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.node.headstart import HeadStart
    from mesh.node.settings import Request, Settings


def lead(settings: "Settings", request: "Request", *, json: str = "", events: str = "") -> int:
    """Run it to its end. `--json` is written whatever happens once the run has begun."""
    from mesh.adapters.turbo.command import direct

    if not request.command or direct(request.command, settings.workspace) is not None:
        return _lead(settings, request, None, json=json, events=events)
    from mesh.node.headstart import head_start

    with head_start(request.command, settings.workspace, settings.environ) as started:
        return _lead(settings, request, started, json=json, events=events)


def _lead(settings: "Settings", request: "Request", started: "HeadStart | None", *, json: str, events: str) -> int:
    import trio

    from mesh.errors import Exit, MeshError
    from mesh.node import main_job
    from mesh.node.board import Board
    from mesh.report.reporter import ReporterKind, make_reporter

    kind: ReporterKind = "wrapped" if request.command else "quiet" if events == "-" else "auto"
    reporter = make_reporter(kind, sys.stdout, sys.stderr, os.environ)
    board = Board(settings.run_id, reporter, Path(json) if json else None)
    code = int(Exit.MESH)
    try:
        if events:
            board.tell_events(events)
        code = trio.run(main_job.run, settings, request, board, started)
    except MeshError as error:
        code = int(error.exit_code)
        board.failed(str(error))
        raise
    finally:
        board.close(code)
    return code

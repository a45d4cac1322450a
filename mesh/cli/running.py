"""A main job from the command line: its display, its files, and its exit code."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.node.main_job import Request
    from mesh.node.settings import Settings


def lead(settings: "Settings", request: "Request", *, json: str = "", events: str = "") -> int:
    """Run it to its end. `--json` is written whatever happens once the run has begun."""
    import trio

    from mesh.errors import Exit, MeshError
    from mesh.node import main_job
    from mesh.node.board import Board
    from mesh.report.reporter import make_reporter

    quiet = bool(request.command) or events == "-"
    reporter = make_reporter("quiet" if quiet else "auto", sys.stdout, sys.stderr, os.environ)
    board = Board(settings.run_id, reporter, Path(json) if json else None)
    code = int(Exit.MESH)
    try:
        if events:
            board.tell_events(events)
        code = trio.run(main_job.run, settings, request, board)
    except MeshError as error:
        code = int(error.exit_code)
        board.failed(str(error))
        raise
    finally:
        board.close(code)
    return code

"""What a person types: one file per verb. Each verb imports what it needs when it runs, so that `dte --help` is quick."""

import atexit
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Final

GC_OBJECTS: Final = 50_000
DESCRIPTORS: Final = 65_536
"""As many as any run needs. Not all that the system allows, since commands inherit it, and some close every one that there may be."""


def main() -> int:
    """Run the verb in argv. What stands behind `--` of `dte run` or `dte plan` is the user's command, and none of our business."""
    if not __debug__:
        print("dte: python -O removes the checks that dte relies on; run it without", file=sys.stderr)
        return 2
    _settle_in()
    # Nearly all of a mesh's objects live to its end or in no cycle: to look for cycles at each 700 new ones took a fifteenth of all time.
    gc.set_threshold(GC_OBJECTS)
    # Nor is there anything to look for before it goes: a run ends a tenth of a second earlier.
    atexit.register(gc.freeze)
    # Its fancier help costs 100 ms to load; a person's own choice counts.
    os.environ.setdefault("TYPER_USE_RICH", "0")
    from mesh.cli.app import app_for
    from mesh.errors import MeshError

    arguments, command = sys.argv[1:], None
    if arguments[:1] in (["run"], ["plan"]) and "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], tuple(arguments[at + 1 :])
    try:
        code = app_for(*arguments[:1])(arguments, obj=command, standalone_mode=False, prog_name="dte")
    except KeyboardInterrupt:
        return 130
    except MeshError as error:
        print(f"dte: {error}", file=sys.stderr)
        return int(error.exit_code)
    except Exception as error:  # noqa: BLE001  what is no mistake in the options is raised again
        return _usage(error)
    return code if isinstance(code, int) else 0


def _settle_in() -> None:
    """Whatever starts us may have left this process in a state that dte cannot work in, or only badly."""
    # Where it is ignored, which is inherited, the kernel keeps no exit code of any child: a command that failed would look as if it had not.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # One that is closed would be the number of the next file or socket that is opened, and Python has no object for it.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - to the end, as all three
    # Each task takes a few, and each agent.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def _usage(error: Exception) -> int:
    """What the option parser found wrong, in its own words; anything else is a defect, and shown as one."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))

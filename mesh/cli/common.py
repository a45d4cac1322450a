"""What `run` and `join` have in common: options to settings, with an error that says what to do for each that cannot be."""

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mesh.errors import UsageError
from mesh.types import SECRET_BYTES_MIN, SLOTS_MAX

if TYPE_CHECKING:
    from mesh.adapters.native.affected import Range
    from mesh.node.settings import Settings
    from mesh.wire.messages import Role

DURATION_MS_MAX: Final = 1_000 * 24 * 3_600_000
AGENTS_MAX: Final = 1_000
"""On one machine."""
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")

RUN_IDS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    # Forgejo and Gitea set GitHub's names too; theirs mean the same.
    ("github", ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT")),
    ("gitlab", ("CI_PIPELINE_ID",)),
    ("circleci", ("CIRCLE_WORKFLOW_ID",)),
    ("azure", ("BUILD_BUILDID", "SYSTEM_JOBATTEMPT")),
    ("buildkite", ("BUILDKITE_BUILD_ID", "BUILDKITE_RETRY_COUNT")),
    ("jenkins", ("BUILD_TAG",)),
    ("bitbucket", ("BITBUCKET_BUILD_NUMBER",)),
)
"""What a CI system calls the same in all jobs of one attempt of one run."""


def duration_ms(text: str, option: str) -> int:
    """`90s`, `10m`, `1h30m`, `500ms`, or a number of seconds, in milliseconds."""
    match = _DURATION.fullmatch(f"{text}s" if text.isdecimal() else text)
    if match is None or not text:
        raise UsageError(f"{option}: {text!r} is no duration; write 90s, 10m, 1h30m, or a number of seconds")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    total_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds
    if total_ms > DURATION_MS_MAX:
        raise UsageError(f"{option} {text}: at most {DURATION_MS_MAX // 3_600_000} h were expected")
    return total_ms


def check_count(value: int, option: str, most: int) -> None:
    """Raises `UsageError` for what is no number from 0 to `most`."""
    if not 0 <= value <= most:
        raise UsageError(f"{option} {value}: a number from 0 to {most} was expected")


def run_id_of(told: str, env_name: str) -> str:
    """The name that main job and agents share: what was told, what the CI system says, else `local`."""
    run_id = told or os.environ.get("NX_CI_EXECUTION_ID", "") or _from_ci() or "local"
    env_name = env_name or os.environ.get("NX_CI_EXECUTION_ENV", "")
    return f"{run_id}/{env_name}" if env_name else run_id


def _from_ci() -> str:
    for provider, names in RUN_IDS:
        values = [os.environ.get(name, "") for name in names]
        if values[0]:
            clean = [re.sub(r"[^A-Za-z0-9._:/@-]", "-", value) for value in values if value]
            return ":".join([provider, *clean])[:150]
    return ""


def secret_of(secret_file: str) -> bytes | None:
    """The run's secret from the file, from standard input ("-"), or from DTE_SECRET; None where none is given."""
    if secret_file == "-":  # noqa: S105  standard input, and no secret
        secret = sys.stdin.buffer.read().strip()
    elif secret_file:
        try:
            secret = Path(secret_file).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"--secret-file {secret_file}: {error.strerror}") from None
    else:
        secret = os.environ.get("DTE_SECRET", "").strip().encode(errors="surrogateescape")
        if not secret:
            return None
    if not secret:
        raise UsageError(
            "the secret is empty; make one with `openssl rand -hex 32` and give it to every job of the run"
        )
    return secret


def selection(
    command: tuple[str, ...] | None, tasks: list[str] | None, *, affected: bool, base: str, head: str
) -> "Range | None":
    """What `--affected` limits native tasks to. Raises `UsageError` for what does not go together."""
    if command is not None and (tasks or affected or base or head):
        raise UsageError(
            "give tasks of dte.toml or `-- COMMAND…`, not both; --affected, --base and --head belong to tasks"
        )
    if command == ():
        raise UsageError("nothing follows `--`; the command to run was expected there")
    if affected and not base:
        raise UsageError("--affected needs --base REF: what the changes are to be compared with, such as origin/main")
    if (base or head) and not affected:
        raise UsageError("--base and --head go with --affected")
    if not affected:
        return None
    from mesh.adapters.native.affected import Range

    return Range(base, head)


def write_json(file: str, *told: object) -> None:
    """Each of `told` as one line of JSON in `file`, written in one step, or on standard output for "-". Raises `StorageError`."""
    from mesh.errors import StorageError
    from mesh.store.files import write_atomically
    from mesh.wire import canonical

    data = b"".join(canonical.encode(each) + b"\n" for each in told)
    if file == "-":
        print(data.decode(), end="")
        return
    try:
        write_atomically(Path(file), data)
    except OSError as error:
        raise StorageError(f"--json {file}: {error.strerror}") from None


def slots_of(slots: int) -> int:
    """How many tasks at a time: as told, else one for each processor that we may keep busy."""
    check_count(slots, "--slots", SLOTS_MAX)
    from mesh.exec.machine import processors

    return slots or processors()


def _possible(slots: int) -> int:
    """No more tasks at a time than there are file descriptors for."""
    from mesh.exec.machine import slots_max

    possible = slots_max()
    if slots > possible:
        print(
            f"dte: {possible} tasks at a time and not {slots}: more files may not be open (ulimit -n)", file=sys.stderr
        )
    return min(slots, possible)


def split_list(values: Sequence[str]) -> tuple[str, ...]:
    """Options that may be repeated, and come with commas from a variable."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def settings_of(
    role: "Role",
    *,
    run_id: str,
    env_name: str,
    secret_file: str,
    name: str,
    slots: int,
    listen: list[str],
    peers: list[str],
    rendezvous: str,
    labels: list[str],
    wait_ms: int,
    targets: Sequence[str] = (),
    gpu: int | None = None,
    main_slots: int = 0,
    may_differ: Sequence[str] = (),
    trace: str = "",
) -> "Settings":
    """Settings for one node, checked."""
    import platform

    from mesh.exec.environment import without_value
    from mesh.net.address import check_peer
    from mesh.node.settings import LISTEN_DEFAULT, Settings
    from mesh.store.home import home

    possible = _possible(slots_of(slots))
    secret = secret_of(secret_file)
    environ = dict(os.environ)
    if secret is not None and len(secret) >= SECRET_BYTES_MIN:  # a shorter one is refused, and may stand in every path
        environ = without_value(environ, os.fsdecode(secret))
    own_labels = (platform.system().lower(), platform.machine().lower(), socket.gethostname())
    return Settings(
        role=role,
        run_id=run_id_of(run_id, env_name),
        secret=secret,
        name=name or os.environ.get("NX_AGENT_NAME", "") or f"{socket.gethostname()[:40]}-{os.getpid()}",
        slots=possible,
        workspace=Path.cwd(),
        data_dir=home(),
        environ=environ,
        listen=split_list(listen) or (LISTEN_DEFAULT,),
        peers=tuple(check_peer(peer) for peer in split_list(peers)),
        rendezvous=Path(rendezvous).absolute() if rendezvous else None,
        labels=tuple(dict.fromkeys([*own_labels, *split_list(labels)])),
        targets=split_list(targets),
        gpu=gpu,
        wait_ms=wait_ms,
        main_slots=min(main_slots, possible),
        may_differ=_facts(split_list(may_differ)),
        trace=Path(trace) if trace else None,
    )


def _facts(names: tuple[str, ...]) -> tuple[str, ...]:
    from mesh.protocol.facts import COMPARED_FACTS

    if unknown := [name for name in names if name not in COMPARED_FACTS]:
        raise UsageError(f"--may-differ {unknown[0]}: main and agents are compared by {', '.join(COMPARED_FACTS)}")
    return names

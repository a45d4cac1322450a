"""Checkpoints: C2SP signed notes, and each way in which one byte may differ."""

import base64
import hashlib
from collections.abc import Iterator

from envelopes import KEY, OTHER, node_id
from vector import Vector, error, ok

RUN = "gh/4711-1"
ROOT = hashlib.sha256(b"").digest()


def note(size: str = "3", *, run: str = RUN, root: str | None = None, sign_size: str | None = None) -> bytes:
    """A note signed by KEY; with `sign_size` what was signed is another size than what it says."""
    origin = f"dte/run/{run}"
    hashed = base64.b64encode(ROOT).decode() if root is None else root
    public = KEY.public_key().public_bytes_raw()
    key_id = hashlib.sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
    signature = KEY.sign(f"{origin}\n{sign_size or size}\n{hashed}\n".encode())
    line = base64.b64encode(key_id + signature).decode()
    return f"{origin}\n{size}\n{hashed}\n\n— {origin} {line}\n".encode()


def opened(name: str, comment: str, data: bytes, expect: dict[str, object], clause: str = "3.1") -> Vector:
    given: dict[str, object] = {"note": data.hex(), "leader": node_id(KEY)}
    return Vector(f"checkpoints/{name}", f"ledger.md {clause}", comment, "checkpoint.open", given, expect)


def vectors() -> Iterator[Vector]:
    good = note()
    yield opened("good", "Three entries.", good, ok(run_id=RUN, size=3, root=ROOT.hex()))
    yield opened("size-zero", "No entries yet.", note("0"), ok(run_id=RUN, size=0, root=ROOT.hex()))
    yield opened("leading-zero", "03 is not 3.", note("03"), error("malformed"))
    yield opened("negative", "There are no negative sizes.", note("-1"), error("malformed"))
    yield opened("extension-line", "A line more.", good.replace(b"\n\n", b"\nmore\n\n", 1), error("malformed"))
    yield opened("no-signature", "Nobody signed.", good[: good.index("—".encode())], error("malformed"))
    yield opened("no-end", "The last line does not end.", good[:-1], error("malformed"))
    yield opened("carriage-return", "Lines end with one byte.", good.replace(b"\n", b"\r\n"), error("malformed"))
    yield opened(
        "short-root", "A root is 32 bytes.", note(root=base64.b64encode(ROOT[:16]).decode()), error("malformed")
    )
    loose = base64.b64encode(ROOT).decode()[:-2] + "V="
    yield opened("loose-base64", "Bits that mean nothing are zero.", note(root=loose), error("malformed"))
    yield opened("other-log", "Another kind of log.", good.replace(b"dte/run/", b"dte/job/"), error("malformed"))
    yield opened("run-with-space", "A run id has no space.", note(run="gh 4711"), error("malformed"))
    yield opened("other-size", "Its size was changed.", note("4", sign_size="3"), error("bad-signature"), "3.2")
    flipped = bytes([ROOT[0] ^ 1]) + ROOT[1:]
    old, new = base64.b64encode(ROOT), base64.b64encode(flipped)
    yield opened("other-root", "Its root was changed.", good.replace(old, new), error("bad-signature"), "3.2")
    given: dict[str, object] = {"note": good.hex(), "leader": node_id(OTHER)}
    comment = "Signed by somebody who does not lead."
    yield Vector("checkpoints/other-leader", "ledger.md 3.2", comment, "checkpoint.open", given, error("bad-signature"))

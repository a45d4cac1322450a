"""Messages: one canonical form, fields that may be missing, fields that may not, and types that nobody knows yet."""

from collections.abc import Iterator

from vector import Vector, canonical, error, ok

DIGEST = "sha256:" + "ab" * 32
NODE = "cd" * 32

GOOD: dict[str, dict[str, object]] = {
    "announce": {
        "type": "announce",
        "epoch": 1,
        "graphs": [{"digest": DIGEST, "size": 7}],
        "closed": True,
        "estimates_max": 64,
    },
    "award": {"type": "award", "epoch": 1, "seq": 12, "task": "p1:build", "attempt": 1},
    "bid": {
        "type": "bid",
        "serial": 4,
        "open": True,
        "slots": 2,
        "graphs": 1,
        "reason": "",
        "cannot": {"p9:deploy": "DEPLOY_TOKEN is not set here"},
        "cached": ["p2:build"],
        "estimates": {"p1:build": [3400, 5100], "p1:test": [1200, 1200]},
    },
    "beat": {"type": "beat", "epoch": 3},
    "ended": {"type": "ended", "epoch": 1, "verdict": "success"},
    "leave": {"type": "leave", "reason": "stopped by SIGTERM"},
    "refused": {"type": "refused", "reason": "its commit is another"},
    "released": {"type": "released", "reason": "3 tasks are left for 2 agents"},
    "started": {"type": "started", "task": "packages/ä:tést", "attempt": 2, "ran_ms": 20},
    "withdraw": {"type": "withdraw", "epoch": 1, "task": "p1:build", "attempt": 1, "kill": False},
    "records": {
        "type": "records",
        "epoch": 1,
        "records": [
            {
                "task": "p1:build",
                "status": "success",
                "key": "k",
                "outputs": {"digest": DIGEST, "size": 10},
                "holders": [NODE],
            }
        ],
    },
}


def message(name: str, comment: str, frame: bytes, expect: dict[str, object]) -> Vector:
    return Vector(f"messages/{name}", "wire.md 3.3", comment, "message.canonical", {"frame": frame.hex()}, expect)


def changed(name: str, **fields: object) -> bytes:
    """A good message with some fields changed; a field that is `...` is left out."""
    value = {**GOOD[name], **fields}
    return canonical({field: content for field, content in value.items() if content is not ...})


def vectors() -> Iterator[Vector]:
    for name, value in GOOD.items():
        data = canonical(value)
        yield message(f"{name}-good", f"A {name} message comes back as the same bytes.", data, ok(frame=data.hex()))
    beat = ok(frame=canonical(GOOD["beat"]).hex())
    yield message("order", "Keys in another order mean the same.", b'{"type":"beat","epoch":3}', beat)
    yield message("white-space", "White space means nothing.", b'{ "epoch" : 3,\n"type":"beat" }', beat)
    yield message("unknown-field", "A field from the future is passed over.", changed("beat", later=[1]), beat)
    yield message("unknown-type", "A message of an unknown type is passed over.", b'{"type":"zzz"}', ok(frame=None))
    of_all = changed("announce", estimates_max=0).hex()
    bare = changed("announce", estimates_max=...)
    yield message("announce-bare", "Estimates are wanted of all tasks.", bare, ok(frame=of_all))
    wrong = {
        "true-is-no-number": ("beat", {"epoch": True}, "`true` is not 1."),
        "fraction": ("beat", {"epoch": 1.5}, "There are no fractions."),
        "number-in-text": ("beat", {"epoch": "3"}, "A number in quotes is none."),
        "negative": ("beat", {"epoch": -1}, "Epochs are not negative."),
        "too-large-number": ("beat", {"epoch": 2**53 + 1}, "Above what every reader can hold exactly."),
        "missing-field": ("award", {"task": ...}, "An award of nothing."),
        "null-field": ("award", {"task": None}, "Null is not a task."),
        "attempt-zero": ("award", {"attempt": 0}, "Attempts are counted from 1."),
        "unknown-verdict": ("ended", {"verdict": "green"}, "Verdicts are a closed list."),
        "digest-of-what": ("announce", {"graphs": [{"digest": "md5:00", "size": 1}]}, "Digests are SHA-256."),
        "estimate-of-one": ("bid", {"estimates": {"p1:build": 3400}}, "An estimate is two quantiles."),
        "estimate-of-three": ("bid", {"estimates": {"p1:build": [1, 2, 3]}}, "An estimate is two quantiles."),
        "estimate-falls": (
            "bid",
            {"estimates": {"p1:build": [2, 1]}},
            "Nine of ten times are not less than half of them.",
        ),
        "missing-type": ("beat", {"type": ...}, "A message without a type."),
    }
    for name, (base, fields, comment) in wrong.items():
        yield message(name, comment, changed(base, **fields), error("malformed"))
    yield message("not-json", "Bytes that are no JSON.", b"\x00\x01", error("malformed"))
    yield message("not-utf-8", "Text that is no UTF-8.", b'{"type":"leave","reason":"\xff"}', error("malformed"))
    yield message("a-list", "A message is an object.", b"[]", error("malformed"))
    yield message("two-values", "A frame holds one value.", b'{"epoch":3,"type":"beat"}{}', error("malformed"))

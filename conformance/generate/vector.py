"""What a vector is, and the encodings that the families share: written from docs/spec, with no look at any implementation."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors"


@dataclass(frozen=True)
class Vector:
    """One scenario that can succeed or fail in one way. `clause` is the sentence of docs/spec that it holds an implementation to."""

    id: str
    clause: str
    comment: str
    op: str
    input: dict[str, object]
    expect: dict[str, object]

    def path(self) -> Path:
        return VECTORS / f"{self.id}.json"

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=True) + "\n"


def canonical(value: object) -> bytes:
    """Canonical JSON as clause 3.3 of wire.md has it: keys by code point, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def ok(**result: object) -> dict[str, object]:
    return {"ok": result}


def error(word: str) -> dict[str, object]:
    return {"error": word}

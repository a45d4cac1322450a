"""Writes every vector anew; with `--check` says which files are not what would be written."""

import sys

import checkpoints
import envelopes
import frames
import merkle
import messages
from vector import VECTORS

FAMILIES = (frames, messages, merkle, envelopes, checkpoints)


def main() -> int:
    vectors = [vector for family in FAMILIES for vector in family.vectors()]
    wanted = {vector.path(): vector.text() for vector in vectors}
    assert len(wanted) == len(vectors), "two vectors have one name"
    there = {path: path.read_text() for path in VECTORS.rglob("*.json")}
    stale = sorted(str(path) for path in {*wanted, *there} if wanted.get(path) != there.get(path))
    if "--check" in sys.argv[1:]:
        print(*stale, sep="\n", end="\n" if stale else "")
        print(f"{len(wanted)} vectors, {len(stale)} of them not as generated")
        return 1 if stale else 0
    for path in there:
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(wanted)} vectors")
    return 0


if __name__ == "__main__":
    sys.exit(main())

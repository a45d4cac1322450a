"""dte itself behind the referee's protocol: the one file of the suite that knows `mesh`."""

import json
import sys
from collections.abc import Callable
from typing import Any

from mesh.errors import RemoteError
from mesh.identity import node_id, open_envelope
from mesh.ledger import checkpoint, merkle
from mesh.wire import codec
from mesh.wire.frames import FrameDecoder


def split(given: dict[str, Any]) -> dict[str, Any]:
    decoder = FrameDecoder()
    frames = [frame.hex() for piece in given["pieces"] for frame in decoder.receive(bytes.fromhex(piece))]
    return {"frames": frames}


def canonical(given: dict[str, Any]) -> dict[str, Any]:
    message = codec.decode(bytes.fromhex(given["frame"]))
    return {"frame": None if message is None else codec.encode(message).hex()}


def root(given: dict[str, Any]) -> dict[str, Any]:
    tree = merkle.Tree()
    for entry in given["entries"]:
        tree.append(merkle.leaf_hash(bytes.fromhex(entry)))
    return {"root": tree.root().hex()}


def inclusion(given: dict[str, Any]) -> dict[str, Any]:
    leaf, top = bytes.fromhex(given["leaf"]), bytes.fromhex(given["root"])
    proof = [bytes.fromhex(step) for step in given["proof"]]
    return {"holds": merkle.verify_inclusion(given["index"], given["size"], leaf, proof, top)}


def consistency(given: dict[str, Any]) -> dict[str, Any]:
    old_root, top = bytes.fromhex(given["old_root"]), bytes.fromhex(given["root"])
    proof = [bytes.fromhex(step) for step in given["proof"]]
    return {"holds": merkle.verify_consistency(given["old"], given["size"], old_root, top, proof)}


def envelope(given: dict[str, Any]) -> dict[str, Any]:
    opened = open_envelope(bytes.fromhex(given["envelope"]))
    return {"signer": opened.signer, "type": opened.payload_type, "payload": opened.payload.hex()}


def note(given: dict[str, Any]) -> dict[str, Any]:
    found = checkpoint.parse(bytes.fromhex(given["note"]))
    if not found.signed_by(node_id(given["leader"])):
        raise RemoteError("bad-signature")
    return {"run_id": found.run_id, "size": found.size, "root": found.root.hex()}


OPS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "frames.split": split,
    "message.canonical": canonical,
    "merkle.root": root,
    "merkle.inclusion": inclusion,
    "merkle.consistency": consistency,
    "envelope.open": envelope,
    "checkpoint.open": note,
    "hello": lambda _: {"name": "mesh", "ops": [op for op in OPS if op != "hello"]},
}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": OPS[asked["op"]](asked["input"])}
        except RemoteError as error:
            answer = {"error": error.word}
        print(json.dumps({"id": asked["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()

"""What was agreed: entries in their order, and the proof of it.

statements  what an entry says             merkle      one hash for all of them
checkpoint  who vouches for that hash      tiles       how it all looks as files
ledger      the leader's growing log       history     what may follow what
verify      is it so?
"""

from mesh.ledger.checkpoint import Checkpoint, SignatureLine, VerifierKey, cosign
from mesh.ledger.ledger import Changes, Ledger
from mesh.ledger.statements import (
    Completion,
    EpochLeaf,
    Genesis,
    GraphLeaf,
    Joined,
    Leaf,
    SignedLeaf,
    VerdictLeaf,
    open_leaf,
)
from mesh.ledger.verify import Verification, verify

__all__ = [
    "Changes",
    "Checkpoint",
    "Completion",
    "EpochLeaf",
    "Genesis",
    "GraphLeaf",
    "Joined",
    "Leaf",
    "Ledger",
    "SignatureLine",
    "SignedLeaf",
    "VerdictLeaf",
    "Verification",
    "VerifierKey",
    "cosign",
    "open_leaf",
    "verify",
]

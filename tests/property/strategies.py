"""Every message of the wire, as Hypothesis draws it: all that a well-behaved peer could ever say, at the limits too."""

from hypothesis import strategies as st

from mesh.types import Blob, Quantiles
from mesh.wire import messages as msg

NUMBERS = st.integers(0, 2**53)
ATTEMPTS = st.integers(1, 2**53)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TASKS = st.sampled_from(["app:build", "lib:test", ""]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BLOBS = st.builds(Blob, st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__), NUMBERS)
ADDRESSES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
ROLES = st.sampled_from(["main", "agent"])


def many(of, max_size=4):
    return st.lists(of, max_size=max_size).map(tuple)


HELLOS = st.builds(
    msg.Hello,
    run_id=TEXTS,
    name=NAMES,
    role=ROLES,
    slots=st.integers(0, 4_096),
    incarnation=NUMBERS,
    addresses=many(ADDRESSES),
    labels=many(TEXTS),
    facts=st.dictionaries(st.sampled_from(["commit", "os", "arch", "memory_bytes", "gpu"]) | NAMES, TEXTS, max_size=5),
    workspace=NAMES,
)
MEMBERS = st.builds(
    msg.Members,
    many(
        st.builds(
            msg.Member,
            NAMES,
            NAMES,
            ROLES,
            NUMBERS,
            st.sampled_from(["alive", "left", "dead"]),
            addresses=many(ADDRESSES),
        )
    ),
)
BIDS = st.builds(
    msg.Bid,
    serial=NUMBERS,
    open=st.booleans(),
    slots=st.integers(0, 4_096),
    graphs=st.integers(0, msg.GRAPHS_MAX),
    reason=TEXTS,
    cannot=st.dictionaries(TASKS, TEXTS, max_size=4),
    cached=many(TASKS),
    estimates=st.dictionaries(TASKS, st.tuples(NUMBERS, NUMBERS).map(sorted).map(Quantiles._make), max_size=4),
)
RECORDS = st.builds(
    msg.Records,
    NUMBERS,
    many(
        st.builds(
            msg.Record,
            TASKS,
            st.sampled_from(["success", "failure", "skipped", "cancelled"]),
            TEXTS,
            st.none() | BLOBS,
            many(NAMES),
        )
    ),
)
BY_TYPE = {
    "hello": HELLOS,
    "members": MEMBERS,
    "beat": st.builds(msg.Beat, NUMBERS),
    "announce": st.builds(msg.Announce, NUMBERS, many(BLOBS), st.booleans()),
    "bid": BIDS,
    "award": st.builds(msg.Award, NUMBERS, NUMBERS, TASKS, ATTEMPTS),
    "withdraw": st.builds(msg.Withdraw, NUMBERS, TASKS, ATTEMPTS, st.booleans()),
    "declined": st.builds(msg.Declined, TASKS, ATTEMPTS, TEXTS, st.booleans(), many(TASKS)),
    "started": st.builds(msg.Started, TASKS, ATTEMPTS, st.integers(0, 2**53)),
    "log": st.builds(msg.Log, TASKS, ATTEMPTS, NUMBERS, TEXTS),
    "result": st.builds(msg.Result, TEXTS),
    "records": RECORDS,
    "refused": st.builds(msg.Refused, TEXTS),
    "released": st.builds(msg.Released, TEXTS),
    "ended": st.builds(msg.Ended, NUMBERS, st.sampled_from(["success", "failure", "error", "cancelled"])),
    "leave": st.builds(msg.Leave, TEXTS),
}
MESSAGES = st.one_of(*BY_TYPE.values())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON, also what the wire has no use for."""

"""Leaves say what they were told to say, in words that in-toto and SLSA know, and always fit."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.errors import RemoteError
from mesh.identity import ENVELOPE_BYTES_MAX, NodeKey, seal
from mesh.ledger import EpochLeaf, Genesis, GraphLeaf, Joined, VerdictLeaf, open_leaf
from mesh.ledger.completion import DEPS_BYTES_MAX, Completion
from mesh.ledger.intoto import PAYLOAD_TYPE, digest_of
from mesh.types import Blob, Epoch, Seq, TaskId, UnixMs
from mesh.wire import canonical

KEY = NodeKey.from_seed(b"k" * 32)
ROOT = bytes(range(32))


def payload(envelope):
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


def resealed(envelope, change):
    """The envelope again, its statement changed by its own signer."""
    statement = payload(envelope)
    change(statement)
    return seal(KEY, canonical.encode(statement), PAYLOAD_TYPE)


texts = st.text(st.characters(codec="utf-8"), max_size=40)
blobs = st.builds(Blob, st.binary().map(digest_of), st.integers(0, 2**53))
times = st.integers(0, 253_402_300_799_999).map(UnixMs)
completions = st.builds(
    Completion,
    run_id=texts,
    task=texts.map(TaskId),
    key=texts,
    status=st.sampled_from(["success", "failure", "skipped", "cancelled"]),
    exit_code=st.integers(-255, 2**32),
    epoch=st.integers(0, 2**53).map(Epoch),
    seq=st.integers(0, 2**53).map(Seq),
    attempt=st.integers(0, 2**53),
    name=texts,
    outputs=st.none() | blobs,
    log=st.none() | blobs,
    started_ms=times,
    ended_ms=times,
    max_rss_bytes=st.integers(0, 2**53),
    cache=st.sampled_from(["none", "hit"]),
    deps=st.lists(texts.filter(bool).map(TaskId), max_size=5).map(tuple),
    problem=texts,
    allowed_to_fail=st.booleans(),
)


@given(completions)
def test_a_completion_is_read_as_it_was_written(completion):
    assert open_leaf(completion.seal(KEY)).leaf == completion


@pytest.mark.parametrize(
    "leaf",
    [
        Genesis("gh/1", KEY.node_id, "main", (b"node", b"authority"), "0" * 64),
        Joined("gh/1", KEY.node_id, "agent 1", (b"node", b"authority")),
        GraphLeaf("gh/1", digest_of(b"graph"), 3),
        EpochLeaf("gh/1", Epoch(2), KEY.node_id, 7, ROOT),
        VerdictLeaf("gh/1", "failure", 1, 7, ROOT),
    ],
)
def test_every_leaf_is_read_as_it_was_written(leaf):
    signed = open_leaf(leaf.seal(KEY))
    assert signed.leaf == leaf
    assert signed.signer == KEY.node_id


@pytest.fixture
def completion(new_story):
    return new_story().completion("p1:build")


def test_a_completion_is_slsa_provenance_of_one_subject(completion):
    envelope = replace(completion, deps=(TaskId("p0:build"),)).seal(KEY)
    statement = payload(envelope)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    (subject,) = statement["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == completion.outputs.digest
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert definition["externalParameters"]["task"] == "p1:build"
    assert definition["resolvedDependencies"] == [{"name": "p0:build"}]
    assert details["builder"]["id"].endswith(KEY.node_id)
    assert details["metadata"]["startedOn"] == "2023-11-14T22:13:20.123Z"
    # No other names than SLSA's own: its published schema refuses them.
    assert definition.keys() == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert details.keys() == {"builder", "metadata", "byproducts"}
    assert details["metadata"].keys() == {"invocationId", "startedOn", "finishedOn"}


def test_the_subject_is_the_log_where_there_are_no_outputs_and_nothing_where_nothing_was(completion):
    no_outputs = replace(completion, outputs=None)
    (subject,) = payload(no_outputs.seal(KEY))["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == completion.log.digest
    (subject,) = payload(replace(no_outputs, log=None).seal(KEY))["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == digest_of(b"")


def test_the_largest_completion_fits_an_entry(completion):
    worst = replace(
        completion,
        run_id="x" * 200,
        task=TaskId("\x01" * 1_024),
        key="\x01" * 1_024,
        name="\x01" * 64,
        problem="\x01" * 100_000,
        left=("\u2028" * 8,) * 1_000,
        deps=(TaskId("\x01"),) * (DEPS_BYTES_MAX // 18),
        epoch=Epoch(2**53),
        seq=Seq(2**53),
        attempt=2**53,
        max_rss_bytes=2**53,
    )
    envelope = worst.seal(KEY)
    assert open_leaf(envelope).leaf.deps == worst.deps
    assert len(envelope) <= ENVELOPE_BYTES_MAX


def test_dependencies_beyond_the_limit_are_named_by_their_digest(completion):
    deps = tuple(TaskId(f"p{number}:build") for number in range(5_000))
    read = open_leaf(replace(completion, deps=deps).seal(KEY)).leaf
    assert read.deps == ()
    assert read.deps_digest == digest_of(canonical.encode(list(deps)))
    assert open_leaf(read.seal(KEY)).leaf == read


def test_a_key_or_a_task_name_beyond_all_bounds_is_refused_with_its_length(completion):
    with pytest.raises(RemoteError, match=r"too-large: task p1:build: an id of 8 and a key of 1025 characters"):
        replace(completion, key="x" * 1_025).seal(KEY)
    with pytest.raises(RemoteError, match="too-large"):
        replace(completion, task=TaskId("x" * 1_025)).seal(KEY)


def test_of_what_a_task_left_as_many_whole_paths_as_fit_are_written(completion):
    left = ("dist/a.js", "dist/\udc80.js", *(f"dist/{number:020}.js" for number in range(100)))
    read = open_leaf(replace(completion, left=left).seal(KEY)).leaf.left
    assert read == (left[0], *left[2:37])
    assert open_leaf(completion.seal(KEY)).leaf.left == ()


def test_a_long_problem_is_cut_and_one_that_is_no_text_is_made_text(completion):
    long = open_leaf(replace(completion, problem="x" * 5_000).seal(KEY)).leaf
    assert (len(long.problem), long.problem[-1]) == (1_024, "…")
    assert open_leaf(replace(completion, problem="a\udc80b").seal(KEY)).leaf.problem == "a?b"


def test_a_clock_beyond_all_bounds_loses_no_result(completion):
    odd = replace(completion, started_ms=UnixMs(-5), ended_ms=UnixMs(2**62))
    read = open_leaf(odd.seal(KEY)).leaf
    assert (read.started_ms, read.ended_ms) == (0, 253_402_300_799_999)


def test_a_completion_that_names_another_builder_than_its_signer_is_refused(completion):
    def change(statement):
        statement["predicate"]["runDetails"]["builder"]["id"] += "0"

    with pytest.raises(RemoteError, match=r"malformed: builder.id: .*, who signed, was expected"):
        open_leaf(resealed(completion.seal(KEY), change))


def drop(*path):
    def change(statement):
        for name in path[:-1]:
            statement = statement[name]
        del statement[path[-1]]

    return change


def put(value, *path):
    def change(statement):
        for name in path[:-1]:
            statement = statement[name]
        statement[path[-1]] = value

    return change


RUN, DEFINITION = ("predicate", "runDetails"), ("predicate", "buildDefinition")


@pytest.mark.parametrize(
    "change",
    [
        put("https://in-toto.io/Statement/v2", "_type"),
        put([], "subject"),
        put([{}], "subject"),
        put("x", "subject", 0, "digest", "sha256"),
        put("other", "subject", 0, "name"),
        put("https://example.com/", "predicateType"),
        put([], "predicate"),
        drop(*RUN),
        drop(*DEFINITION, "externalParameters", "task"),
        drop("subject", 0, "annotations"),
        put([], *RUN, "byproducts"),
        put("green", *RUN, "byproducts", 0, "annotations", "status"),
        put(True, *RUN, "byproducts", 0, "annotations", "exit_code"),
        put("warm", *RUN, "byproducts", 0, "annotations", "cache"),
        put("yesterday", *RUN, "metadata", "startedOn"),
        put("2023-11-14T22:13:20", *RUN, "metadata", "startedOn"),
        put([{"name": ""}], *DEFINITION, "resolvedDependencies"),
        put(["x"], *DEFINITION, "resolvedDependencies"),
        put([{}] * 3, *RUN, "byproducts"),
    ],
)
def test_a_completion_in_which_something_is_wrong_is_refused(completion, change):
    with pytest.raises(RemoteError) as caught:
        open_leaf(resealed(completion.seal(KEY), change))
    assert caught.value.word == "malformed"


def test_fields_of_a_newer_dte_are_passed_over(completion):
    sealed = completion.seal(KEY)
    assert open_leaf(resealed(sealed, put(1, *DEFINITION, "externalParameters", "new"))).leaf == completion


@pytest.mark.parametrize(
    "change",
    [
        put([], "predicate", "chain"),
        put(["!"], "predicate", "chain"),
        put([base64.b64encode(b"other").decode()], "predicate", "chain"),
        put("everybody", "predicate", "roster"),
        put("x", "predicate", "leader"),
        put("x", "predicate", "root_public"),
    ],
)
def test_a_genesis_in_which_something_is_wrong_is_refused(change):
    genesis = Genesis("gh/1", KEY.node_id, "main", (b"node", b"authority"), "0" * 64)
    with pytest.raises(RemoteError) as caught:
        open_leaf(resealed(genesis.seal(KEY), change))
    assert caught.value.word == "malformed"


def test_an_envelope_of_something_else_is_no_leaf():
    with pytest.raises(RemoteError, match=r"malformed: payloadType"):
        open_leaf(seal(KEY, b"{}", "text/plain"))
    with pytest.raises(RemoteError, match="malformed"):
        open_leaf(seal(KEY, b"hello", PAYLOAD_TYPE))

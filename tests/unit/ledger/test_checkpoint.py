"""A checkpoint is a C2SP note, spelled in one way, and vouched for by those who sign it."""

import base64

import pytest

from mesh.errors import RemoteError
from mesh.identity import NodeKey, verify
from mesh.ledger import VerifierKey, checkpoint
from mesh.ledger.checkpoint import Checkpoint, cosign, log_key, parse, parse_line, sign, witness_key, witness_of
from mesh.ledger.merkle import leaf_hash

LEADER, WITNESS = NodeKey.from_seed(b"l" * 32), NodeKey.from_seed(b"w" * 32)
ROOT = leaf_hash(b"x")
SIGNED = sign(LEADER, "gh/1", 7, ROOT)

# The pair in the signed-note specification itself.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_TEXT = b"This is an example message.\n"
SPEC_LINE = (
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
)


def test_the_key_and_the_signature_of_the_note_specification_are_read_as_it_says():
    key, line = VerifierKey.parse(SPEC_KEY), parse_line(SPEC_LINE)
    assert (key.name, key.kind) == ("example.com/foo", 1)
    assert key.key_id == line.key_id
    assert verify(key.node, SPEC_TEXT, line.signature)
    assert key.render() == SPEC_KEY
    assert line.render() == SPEC_LINE


def test_a_checkpoint_is_three_lines_and_a_signature_of_them():
    note = SIGNED.render().decode()
    text, _, signature = note.partition("\n\n")
    assert text == f"dte/run/gh/1\n7\n{base64.b64encode(ROOT).decode()}"
    assert signature.startswith("— dte/run/gh/1 ")
    assert verify(LEADER.node_id, f"{text}\n".encode(), parse_line(signature.removesuffix("\n")).signature)


def test_what_was_signed_is_what_is_parsed():
    assert parse(SIGNED.render()) == SIGNED
    assert SIGNED.run_id == "gh/1"
    assert SIGNED.signed_by(LEADER.node_id)
    assert not SIGNED.signed_by(WITNESS.node_id)


def test_a_cosignature_covers_the_checkpoint_and_its_time():
    line = cosign(WITNESS, SIGNED, 1_679_315_147)
    message = b"cosignature/v1\ntime 1679315147\n" + SIGNED.text
    assert line.signature[:8] == (1_679_315_147).to_bytes(8)
    assert verify(WITNESS.node_id, message, line.signature[8:])
    assert SIGNED.cosigned_by(WITNESS.node_id, line)
    assert witness_of(line) == WITNESS.node_id


def test_a_cosignature_is_of_one_node_one_time_and_one_checkpoint():
    line = cosign(WITNESS, SIGNED, 1)
    later = checkpoint.SignatureLine(line.name, line.key_id, (2).to_bytes(8) + line.signature[8:])
    assert not SIGNED.cosigned_by(LEADER.node_id, line)
    assert not SIGNED.cosigned_by(WITNESS.node_id, later)
    assert not SIGNED.cosigned_by(WITNESS.node_id, checkpoint.SignatureLine(line.name, line.key_id, b"1234"))
    assert not sign(LEADER, "gh/1", 8, ROOT).cosigned_by(WITNESS.node_id, line)
    assert not sign(LEADER, "gh/2", 7, ROOT).cosigned_by(WITNESS.node_id, line)


def test_a_signature_of_the_log_is_no_cosignature_and_the_other_way_round():
    line = cosign(WITNESS, SIGNED, 1)
    assert not SIGNED.cosigned_by(LEADER.node_id, SIGNED.signatures[0])
    assert not Checkpoint(SIGNED.origin, 7, ROOT, (line,)).signed_by(WITNESS.node_id)
    assert witness_of(SIGNED.signatures[0]) is None
    assert log_key("gh/1", LEADER.node_id).key_id != witness_key(LEADER.node_id).key_id


def test_cosignatures_are_added_once_and_behind_the_leader_s_signature():
    line, second = cosign(WITNESS, SIGNED, 1), cosign(WITNESS, SIGNED, 2)
    both = SIGNED.with_cosignatures([line]).with_cosignatures([second])
    assert both.signatures == (*SIGNED.signatures, line)
    assert parse(both.render()) == both


NOTE = SIGNED.render()


@pytest.mark.parametrize(
    "note",
    [
        b"",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"\n7\n", b"\n07\n"),
        NOTE.replace(b"\n7\n", b"\n7 \n"),
        NOTE.replace(b"\n7\n", b"\n-7\n"),
        NOTE.replace(b"\n7\n", b"\n\xd9\xa7\n"),
        NOTE.replace(b"\n\n", b"\nextension\n\n"),
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"dte/run/gh/1", b"example.com/log"),
        NOTE.replace(b"dte/run/gh/1", b"dte/run/"),
        NOTE.replace(b"dte/run/gh/1", b"dte/run/a b"),
        NOTE.replace(b"dte/run/gh/1\n", b"dte/run/gh\xe2\x80\xa81\n", 1),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.split(b"\n\n")[0] + b"\n\n",
        b"\xff" + NOTE,
    ],
)
def test_what_is_spelled_differently_is_no_checkpoint(note):
    with pytest.raises(RemoteError) as caught:
        parse(note)
    assert caught.value.word == "malformed"


def test_base64_has_one_spelling_in_a_root_and_in_a_signature():
    root = base64.b64encode(ROOT)
    assert root.endswith(b"=")
    sloppy = root[:-2] + bytes([root[-2] + 1]) + b"="
    assert base64.b64decode(sloppy) == ROOT
    with pytest.raises(RemoteError, match="malformed"):
        parse(NOTE.replace(root, sloppy))
    with pytest.raises(RemoteError, match="canonical"):
        parse_line(SPEC_LINE[:-2] + "N=")


def test_a_checkpoint_beyond_the_limits_is_refused_before_it_is_read():
    with pytest.raises(RemoteError, match="too-large: a ledger of 1000001 entries; the limit is 1000000"):
        parse(sign(LEADER, "gh/1", 1_000_001, ROOT).render())
    with pytest.raises(RemoteError, match="too-large: a checkpoint of"):
        parse(NOTE + b"x" * checkpoint.CHECKPOINT_BYTES_MAX)
    with pytest.raises(RemoteError, match="too-large"):
        parse(NOTE + b"\n" * checkpoint.SIGNATURES_MAX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        SPEC_KEY.replace("530d903a", "530D903A"),
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY.replace("example.com/foo", "example.com/bar"),
        SPEC_KEY.replace("example.com/foo", ""),
        SPEC_KEY.replace("example.com/foo", "example com"),
        SPEC_KEY[:-1] + "l",
        SPEC_KEY + "=",
        SPEC_KEY[:-4],
        f" {SPEC_KEY}",
        f"{SPEC_KEY}\n",
        SPEC_KEY.replace("+A", "+\n A"),
    ],
)
def test_a_verifier_key_has_one_spelling(text):
    with pytest.raises(RemoteError, match="malformed"):
        VerifierKey.parse(text)


def test_a_name_with_white_space_is_none_even_with_its_own_key_id():
    with pytest.raises(RemoteError, match="malformed"):
        VerifierKey.parse(VerifierKey("a b", 1, LEADER.node_id).render())


@pytest.mark.parametrize(
    "text", ["", "— a", "— a ", "— a AAAA", "— a b AAAAAAAA", "a AAAAAAAA", "— a AAAA AAAA", "— + AAAAAAAA"]
)
def test_a_signature_line_has_a_name_and_more_than_a_key_id(text):
    with pytest.raises(RemoteError, match="malformed"):
        parse_line(text)

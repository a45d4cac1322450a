"""Who knows the secret is the authority; who does not can make none of its certificates."""

import dataclasses

import pytest

from mesh.errors import UsageError
from mesh.identity import Authority, NodeKey, verify_chain

SECRET = b"a secret of thirty-two bytes 0123"
KEY = NodeKey.from_seed(bytes(range(32)))


def test_two_machines_with_one_secret_make_the_same_certificates():
    here, there = (Authority.derive(SECRET, "gh/4711-1") for _ in range(2))
    assert here.root_pem == there.root_pem
    assert here.issue(KEY, "main") == there.issue(KEY, "main")


def test_what_a_secret_gives_never_changes():
    # A change here parts new peers from old ones, and stored results from the root that vouches for them.
    authority = Authority.derive(SECRET, "gh/4711-1")
    assert authority.root_public == "7eaa6c0870f972ae6d39485e4368fc713514dad9802db1ee9ae9a24402831b8c"
    assert (
        verify_chain(authority.issue(KEY, "main").chain_der, None).authority
        == "72080503e2bb4e350b2c565d7febaec777fdf4a73ceeadedcb9596ebeecf9dff"
    )


@pytest.mark.parametrize(
    ("secret", "run_id", "domain"),
    [(SECRET + b"!", "gh/1", "run"), (SECRET, "gh/2", "run"), (SECRET, "gh/1", "protected")],
)
def test_another_secret_run_or_domain_is_another_authority(secret, run_id, domain):
    one, other = Authority.derive(SECRET, "gh/1"), Authority.derive(secret, run_id, domain)
    assert one.issue(KEY, "main").anchor_pem != other.issue(KEY, "main").anchor_pem


def test_the_runs_of_one_domain_share_its_root_and_domains_do_not():
    assert Authority.derive(SECRET, "gh/1").root_pem == Authority.derive(SECRET, "gh/2").root_pem
    assert Authority.derive(SECRET, "gh/1", "pr").root_public != Authority.derive(SECRET, "gh/1", "branch").root_public


def test_a_secret_of_fifteen_bytes_is_refused_and_one_of_sixteen_is_not():
    with pytest.raises(UsageError, match=r"the secret has 15 bytes and must have at least 16.*DTE_SECRET"):
        Authority.derive(b"x" * 15, "gh/1")
    Authority.derive(b"x" * 16, "gh/1")


def test_the_message_about_a_short_secret_does_not_tell_it():
    with pytest.raises(UsageError) as caught:
        Authority.derive(b"hunter2", "gh/1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("run_id", ["", "a b", "a+b", "ü", "a\n", "x" * 201, "a%b"])
def test_a_run_id_with_other_characters_is_refused(run_id):
    with pytest.raises(UsageError, match=r"the run id .* --run-id"):
        Authority.derive(SECRET, run_id)


@pytest.mark.parametrize("run_id", ["x" * 200, "AZaz09._:/@-", "github.com/o/r@123:1"])
def test_a_run_id_of_the_allowed_characters_is_in_the_certificates(run_id):
    assert verify_chain(Authority.derive(SECRET, run_id).issue(KEY, "m").chain_der, None).run_id == run_id


@pytest.mark.parametrize("domain", ["", "PR", "a/b", "x" * 33])
def test_a_domain_with_other_characters_is_refused(domain):
    with pytest.raises(UsageError, match="the trust domain"):
        Authority.derive(SECRET, "gh/1", domain)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65, "ü" * 33, "\x1b[2J", "\udc80"])
def test_a_name_that_cannot_be_printed_or_is_too_long_is_refused(name):
    with pytest.raises(UsageError, match=r"the name .* --name"):
        Authority.derive(SECRET, "gh/1").issue(KEY, name)


@pytest.mark.parametrize("name", ["m", "agent 1", "x" * 64, "ü" * 32])
def test_a_name_of_any_script_is_in_the_certificate(name):
    assert verify_chain(Authority.derive(SECRET, "gh/1").issue(KEY, name).chain_der, None).name == name


def test_neither_a_secret_nor_a_private_key_is_in_any_repr():
    authority = Authority.derive(SECRET, "gh/1")
    credentials = authority.issue(KEY, "main")
    for value in (authority, credentials):
        assert SECRET.decode() not in repr(value)
        assert "PRIVATE" not in repr(value)
    assert {field.name for field in dataclasses.fields(credentials) if not field.repr} == {"key_pem"}

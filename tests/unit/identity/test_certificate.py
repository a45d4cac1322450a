"""Certificates are believed by those who should, OpenSSL and curl among them, and by nobody else."""

import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.errors import RemoteError
from mesh.identity import HOST_NAME, Authority, Member, NodeKey, host_name_of, node_id_of, verify_chain

AUTHORITY = Authority.derive(b"s" * 32, "gh/1", "pr")
OTHER_RUN = Authority.derive(b"s" * 32, "gh/2", "pr")
MAIN, AGENT = NodeKey.from_seed(b"m" * 32), NodeKey.from_seed(b"a" * 32)


def test_a_chain_says_who_what_run_and_what_domain():
    chain = AUTHORITY.issue(AGENT, "agent 1").chain_der
    member = verify_chain(chain, AUTHORITY.root_public)
    assert member == Member(AGENT.node_id, "agent 1", "pr", "gh/1", member.authority)
    assert node_id_of(chain[0]) == AGENT.node_id
    assert member.authority == node_id_of(chain[1])


def test_members_of_one_run_share_an_authority_and_of_two_runs_only_the_root():
    one = verify_chain(AUTHORITY.issue(MAIN, "main").chain_der, AUTHORITY.root_public)
    two = verify_chain(AUTHORITY.issue(AGENT, "agent").chain_der, AUTHORITY.root_public)
    other = verify_chain(OTHER_RUN.issue(AGENT, "agent").chain_der, AUTHORITY.root_public)
    assert one.authority == two.authority != other.authority


def test_dates_reach_from_1970_to_9999_so_that_no_clock_is_too_wrong():
    for der in AUTHORITY.issue(MAIN, "main").chain_der:
        certificate = x509.load_der_x509_certificate(der)
        assert certificate.not_valid_before_utc == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        assert certificate.not_valid_after_utc.year == 9999
        assert 0 < certificate.serial_number < 2**159


def test_a_chain_of_another_root_is_refused():
    stranger = Authority.derive(b"t" * 32, "gh/1", "pr")
    with pytest.raises(RemoteError, match=rf"bad-certificate: .* not signed by the root {AUTHORITY.root_public}"):
        verify_chain(stranger.issue(AGENT, "agent").chain_der, AUTHORITY.root_public)


def test_a_node_under_an_authority_that_has_not_signed_it_is_refused():
    node = OTHER_RUN.issue(AGENT, "agent").chain_der[0]
    authority = AUTHORITY.issue(AGENT, "agent").chain_der[1]
    with pytest.raises(RemoteError, match=r"bad-certificate: .* not signed by the run authority beside it"):
        verify_chain((node, authority), None)


def test_a_node_cannot_pass_for_an_authority():
    node, authority = AUTHORITY.issue(AGENT, "agent").chain_der
    root = x509.load_pem_x509_certificate(AUTHORITY.root_pem).public_bytes(Encoding.DER)
    with pytest.raises(RemoteError, match="bad-certificate"):
        verify_chain((node, node), None)
    with pytest.raises(RemoteError, match="a node must not"):
        verify_chain((authority, root), AUTHORITY.root_public)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_chain_is_two_certificates(length):
    chain = (AUTHORITY.issue(AGENT, "agent").chain_der * 2)[:length]
    with pytest.raises(RemoteError, match="bad-certificate: a chain is"):
        verify_chain(chain, None)


def test_a_flipped_bit_in_a_chain_is_refused():
    node, authority = AUTHORITY.issue(AGENT, "agent").chain_der
    for at in range(len(node)):
        for which in range(2):
            chain = [bytearray(node), bytearray(authority)]
            chain[which][at % len(chain[which])] ^= 1 << at % 8
            with pytest.raises(RemoteError) as caught:
                verify_chain([bytes(der) for der in chain], AUTHORITY.root_public)
            assert caught.value.word == "bad-certificate"


@pytest.mark.parametrize("der", [b"", b"x", bytes(5_000)])
def test_what_is_no_certificate_is_refused(der):
    with pytest.raises(RemoteError, match="bad-certificate"):
        node_id_of(der)


def test_a_key_of_another_kind_names_no_node():
    key, issuer = generate_private_key(SECP256R1()), MAIN.private
    name = x509.Name([])
    date = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(date).not_valid_after(date)
    with pytest.raises(RemoteError, match="its key is not an Ed25519 key"):
        node_id_of(builder.sign(issuer, None).public_bytes(Encoding.DER))
    with pytest.raises(RemoteError, match="not an Ed25519 certificate"):
        node_id_of(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


# --- against OpenSSL and curl --------------------------------------------------------------------------


def write(folder, authority, key, name):
    """The files that a program takes, and their names."""
    credentials = authority.issue(key, name)
    files = {"chain": credentials.chain_pem, "key": credentials.key_pem, "anchor": credentials.anchor_pem}
    for part, data in files.items():
        (folder / f"{name}.{part}").write_bytes(data)
    return {part: str(folder / f"{name}.{part}") for part in files}


def context(protocol, files):
    result = ssl.SSLContext(protocol)
    result.minimum_version = ssl.TLSVersion.TLSv1_3
    result.load_cert_chain(files["chain"], files["key"])
    result.load_verify_locations(files["anchor"])
    result.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    result.verify_mode = ssl.CERT_REQUIRED
    return result


def handshake(server, client, host):
    """Join two ends in memory; what each has seen of the other, as a node's name."""
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname=host),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done[number] = True
            except ssl.SSLWantReadError:
                pass
    assert all(done)
    return [node_id_of(end.getpeercert(binary_form=True)) for end in ends]


@pytest.mark.parametrize("host", [HOST_NAME, host_name_of(MAIN.node_id), "localhost", "127.0.0.1", "::1"])
def test_two_nodes_of_one_run_shake_hands_and_know_each_other(tmp_path, host):
    server = context(ssl.PROTOCOL_TLS_SERVER, write(tmp_path, AUTHORITY, MAIN, "main"))
    client = context(ssl.PROTOCOL_TLS_CLIENT, write(tmp_path, AUTHORITY, AGENT, "agent"))
    assert handshake(server, client, host) == [MAIN.node_id, AGENT.node_id]


def test_one_node_can_be_pinned_by_its_own_host_name(tmp_path):
    server = context(ssl.PROTOCOL_TLS_SERVER, write(tmp_path, AUTHORITY, MAIN, "main"))
    client = context(ssl.PROTOCOL_TLS_CLIENT, write(tmp_path, AUTHORITY, AGENT, "agent"))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client, host_name_of(AGENT.node_id))


@pytest.mark.parametrize("stranger", [OTHER_RUN, Authority.derive(b"t" * 32, "gh/1", "pr")])
@pytest.mark.parametrize("end", ["server", "client"])
def test_a_node_of_another_run_or_secret_is_refused_at_both_ends(tmp_path, stranger, end):
    server = write(tmp_path, stranger if end == "server" else AUTHORITY, MAIN, "main")
    client = write(tmp_path, stranger if end == "client" else AUTHORITY, AGENT, "agent")
    if end == "client":  # It believes the server, so that the server must judge.
        client["anchor"] = server["anchor"]
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(context(ssl.PROTOCOL_TLS_SERVER, server), context(ssl.PROTOCOL_TLS_CLIENT, client), HOST_NAME)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_finds_nothing_against_the_whole_chain_or_a_part_of_it(tmp_path):
    files = write(tmp_path, AUTHORITY, MAIN, "main")
    (tmp_path / "root").write_bytes(AUTHORITY.root_pem)
    whole = ["-CAfile", str(tmp_path / "root"), "-untrusted", files["anchor"]]
    for trust in (whole, ["-partial_chain", "-CAfile", files["anchor"]]):
        for purpose in ("sslserver", "sslclient"):
            command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, *trust, files["chain"]]
            assert "OK" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def served(tmp_path):
    """A node that answers HTTP on loopback, and its port."""
    tls = context(ssl.PROTOCOL_TLS_SERVER, write(tmp_path, AUTHORITY, MAIN, "main"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with raw:
                raw.settimeout(5)
                try:
                    with tls.wrap_socket(raw, server_side=True) as link:
                        link.recv(4096)
                        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                except OSError:  # a stranger
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_is_a_client_and_checks_the_host_name(tmp_path, served):
    files = write(tmp_path, AUTHORITY, AGENT, "agent")
    own = ["--cacert", files["anchor"], "--cert", files["chain"], "--key", files["key"]]
    there = ["--connect-to", f"::127.0.0.1:{served}"]

    def curl(*arguments):
        command = ["curl", "-s", "--max-time", "10", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    assert curl(*own, f"https://127.0.0.1:{served}/") == "ok"
    assert curl(*own, f"https://localhost:{served}/") == "ok"
    assert curl(*own, *there, f"https://{HOST_NAME}/") == "ok"
    assert curl(*own, *there, f"https://{host_name_of(MAIN.node_id)}/") == "ok"
    assert curl(*own, "--resolve", f"{HOST_NAME}:{served}:127.0.0.1", f"https://{HOST_NAME}:{served}/") == "ok"
    assert curl(*own, *there, f"https://{host_name_of(AGENT.node_id)}/") == ""
    assert curl("-k", f"https://127.0.0.1:{served}/") == ""

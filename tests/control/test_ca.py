"""The installation's CA: what it issues is accepted by real TLS on both sides, and nothing else is."""

import asyncio
import ssl
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from control.ca import RECEIVER, Authority, BadRequest, make_key, make_request, node_uri, write_private


def _names(pem: bytes) -> x509.SubjectAlternativeName:
    cert = x509.load_pem_x509_certificate(pem)
    return cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def _contexts(tmp_path: Path, server: Authority, client: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of a server that demands client certificates and of a client."""
    contexts = []
    for side, authority, purpose in (("s", server, ssl.PROTOCOL_TLS_SERVER), ("c", client, ssl.PROTOCOL_TLS_CLIENT)):
        authority.write_pair(tmp_path / side, "localhost", uri=RECEIVER)
        context = ssl.SSLContext(purpose)
        context.load_cert_chain(tmp_path / side / "cert.pem", tmp_path / side / "key.pem")
        context.load_verify_locations(tmp_path / "s" / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    return contexts[0], contexts[1]


async def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """Connect, say one byte, return what the server saw of the client's names."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("ssl_object").getpeercert()
        writer.write(repr(peer["subjectAltName"]).encode())
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


async def test_both_sides_of_tls_accept_what_it_issued(tmp_path: Path) -> None:
    authority = Authority.make()
    seen = await _handshake(*_contexts(tmp_path, authority, authority))
    assert RECEIVER.encode() in seen


async def test_a_client_of_another_installation_is_turned_away(tmp_path: Path) -> None:
    seen = b""
    with suppress(ssl.SSLError, ConnectionResetError):  # in TLS 1.3 the client may learn of it at its first read only
        seen = await _handshake(*_contexts(tmp_path, Authority.make(), Authority.make()))
    assert seen == b""


def test_a_node_gets_the_name_we_give_and_keeps_its_key() -> None:
    key = make_key()
    pem = Authority.make().sign_node(make_request(key, "i-would-be-mx9"), "mx3", ["192.0.2.7", "mx3.example.net"])
    cert = x509.load_pem_x509_certificate(pem)
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "mx3"
    assert cert.public_key() == key.public_key()
    assert _names(pem).get_values_for_type(x509.UniformResourceIdentifier) == [node_uri("mx3")]
    assert _names(pem).get_values_for_type(x509.DNSName) == ["mx3", "mx3.example.net"]
    assert [str(ip) for ip in _names(pem).get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def _rsa_request() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx3")])
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _other_curve() -> bytes:
    return make_request(ec.generate_private_key(ec.SECP384R1()), "mx3")


def _forged() -> bytes:
    """A request whose signature no longer fits."""
    good = x509.load_pem_x509_csr(make_request(make_key(), "mx3")).public_bytes(serialization.Encoding.DER)
    changed = x509.load_der_x509_csr(good.replace(b"mx3", b"mx4"))
    return changed.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_pem", "why"),
    [
        (b"", "not a PEM"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a PEM"),
        (_rsa_request(), "P-256"),
        (_other_curve(), "P-256"),
        (_forged(), "not signed"),
    ],
    ids=["empty", "garbage", "rsa", "other curve", "forged"],
)
def test_a_request_that_cannot_be_trusted_is_refused(request_pem: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        Authority.make().sign_node(request_pem, "mx3")


def test_keys_are_for_their_owner_only_and_an_authority_survives_the_disk(tmp_path: Path) -> None:
    authority = Authority.make()
    authority.save(tmp_path / "ca.pem", tmp_path / "ca.key")
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    again = Authority.load(tmp_path / "ca.pem", tmp_path / "ca.key")
    assert again.cert_pem == authority.cert_pem


def test_a_secret_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A reader that opened the file before sees what was there, to its end; none ever sees an empty one."""
    path = tmp_path / "secret"
    write_private(path, b"first")
    with path.open("rb") as reader:
        write_private(path, b"the second, longer")
        assert reader.read() == b"first"
    assert path.read_bytes() == b"the second, longer"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]

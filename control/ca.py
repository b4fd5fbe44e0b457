"""The installation's own certificate authority: who is a node, who is the receiver, which server is ours.

P-256 keys, made with `cryptography`. A certificate says what its holder is in a URI of its subject
alternative names: `mxfleet://node/<name>` or `mxfleet://receiver`; peers of the spool protocol go by that,
never by the host name. The CA's key lies with the control plane only; a joining node sends a request (CSR)
and its key never leaves it.
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
CERT_DAYS = 825
"""The longest life that common TLS stacks accept of a server."""
BACKDATE = timedelta(hours=1)
"""Certificates begin in the past: a node's clock may lag behind ours."""

RECEIVER = "mxfleet://receiver"
_USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


class BadRequest(ValueError):
    """A certificate request that cannot be signed; the text says why."""


def node_uri(name: str) -> str:
    """The URI by which peers know a node."""
    return f"mxfleet://node/{name}"


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A PEM certificate request of the node `name`, proving that it holds `key`."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(name)).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


class Authority:
    """A CA certificate with its key. Create with `Authority.make` or `Authority.load`."""

    def __init__(self, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._cert = cert
        self._key = key

    @property
    def cert_pem(self) -> bytes:
        """The CA's certificate, for every trust store of the installation."""
        return self._cert.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def make(cls, name: str = "mxfleet installation CA") -> "Authority":
        """A new authority with a new key."""
        key = make_key()
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = (
            _builder(_subject(name), _subject(name), key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert: str | Path, key: str | Path) -> "Authority":
        """The authority in two PEM files. Raises OSError, or ValueError when they are no such thing."""
        loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key}: expected an elliptic-curve key")
        return cls(x509.load_pem_x509_certificate(Path(cert).read_bytes()), loaded)

    def save(self, cert: str | Path, key: str | Path) -> None:
        """Write both PEM files; the key for its owner's eyes only."""
        write_private(key, key_pem(self._key))
        Path(cert).write_bytes(self.cert_pem)

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, name: str, *, uri: str = "", hosts: Sequence[str] = ()
    ) -> bytes:
        """A PEM certificate for `name`, usable as server and client; `hosts` are DNS names and IP addresses."""
        names = [*([x509.UniformResourceIdentifier(uri)] if uri else []), *_hosts(hosts or (name,))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_subject(name), self._cert.subject, public_key, CERT_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign_node(self, request_pem: bytes, name: str, hosts: Sequence[str] = ()) -> bytes:
        """A node's certificate from its request; the name is ours to give, the request's own is ignored.

        Raises BadRequest for what is no valid request with a P-256 key.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
        except ValueError as error:
            raise BadRequest("not a PEM certificate request") from error
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadRequest("the key must be an elliptic-curve key on P-256")
        if not request.is_signature_valid:
            raise BadRequest("the request is not signed by its own key")
        return self.issue(key, name, uri=node_uri(name), hosts=(name, *hosts))

    def write_pair(self, directory: str | Path, name: str, *, uri: str = "", hosts: Sequence[str] = ()) -> None:
        """Make a key and its certificate as `cert.pem`, `key.pem` and `ca.pem` in `directory`."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        key = make_key()
        write_private(directory / "key.pem", key_pem(key))
        (directory / "cert.pem").write_bytes(self.issue(key.public_key(), name, uri=uri, hosts=hosts))
        (directory / "ca.pem").write_bytes(self.cert_pem)


def write_private(path: str | Path, content: bytes) -> None:
    """Write a file that only its owner may read, from its first byte on; nobody ever sees half of it."""
    draft = Path(f"{path}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(draft, path)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, public_key, x509.random_serial_number(), now - BACKDATE, now + timedelta(days=days)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _hosts(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )

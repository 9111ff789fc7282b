"""Certificates for tests: authorities, what they sign, and files that are replaced while a service reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    private_key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Replaces both files, each as a whole; their paths."""
        paths = (folder / f"{name}.crt", folder / f"{name}.key")
        for path, content in zip(paths, (self.certificate, self.private_key), strict=True):
            staged = path.with_suffix(".new")
            staged.write_bytes(content)
            staged.replace(path)
        return paths


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key, -_DAY, _DAY)
        certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(certificate.sign(self._key, hashes.SHA256()))

    def sign(
        self,
        common_name: str,
        *,
        names: Sequence[str] = (),
        begins: timedelta = -_DAY,
        ends: timedelta = _DAY,
    ) -> Pair:
        """A certificate for `common_name`, 127.0.0.1 if it is for a server (`localhost`), and alternative `names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _builder(subject, self._name, key, begins, ends)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if common_name == "localhost":
            alternatives += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """What a client needs that trusts this authority, and shows `pair`."""
        key, certificate = (pair.private_key, pair.certificate) if pair is not None else (None, None)
        return grpc.ssl_channel_credentials(self.certificate, key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""What opens a daskserver: a token for HTTP, certificates of its own for TLS.

A certificate authority is made for each daskserver and signs one certificate, which scheduler, workers,
clients and hashserver share: whoever has it is the account that the daskserver runs as. A restart uses what
is there. A certificate that is about to expire, or that lacks a name of this host, is signed anew by
the same authority, so that a copy of ``ca.pem`` elsewhere stays good.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ...errors import UsageError
from ...private import private_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

TOKEN, TLS = "token", "tls"
AUTHORITY_DAYS, CERTIFICATE_DAYS, RENEWAL_DAYS = 3650, 730, 90
"""How long both are good for, and how long before the end a start renews."""


class Credentials(NamedTuple):
    """Files that are readable by their owner alone; None for TLS that is switched off."""

    token_file: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def make(directory: str, hosts: Iterable[str], insecure: bool = False) -> Credentials:
    """Return the credentials in a daskserver's directory; what is missing or does not hold is made.

    Parameters
    ----------
    directory
        Entered by its owner alone.
    hosts
        Names and addresses under which the services are reached, beside those of this host.
    insecure
        Make a token only.

    Raises
    ------
    UsageError
        If the library that makes certificates is not installed.
    """
    token = os.path.join(directory, TOKEN)
    if not os.path.exists(token):
        from hashserver.auth import create_token_file

        create_token_file(token)
    if insecure:
        return Credentials(token)
    folder = private_directory(os.path.join(directory, TLS))
    names = sorted({*own_names(), *hosts})
    _make_certificates(folder, names)
    return Credentials(token, *(os.path.join(folder, name) for name in ("ca.pem", "cert.pem", "key.pem")))


def end_of(credentials: Credentials) -> float | None:
    """Return when the certificate expires, in seconds since the epoch; None without TLS."""
    if credentials.cert_file is None:
        return None
    from cryptography import x509

    with open(credentials.cert_file, "rb") as file:
        return x509.load_pem_x509_certificate(file.read()).not_valid_after_utc.timestamp()


def own_names() -> set[str]:
    """Return names of this host; ``localhost`` among them, so that what comes out of a tunnel verifies."""
    import socket

    return {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()}


def _make_certificates(folder: str, names: list[str]) -> None:
    try:
        import cryptography  # noqa: F401 - whether it is there is the question
    except ImportError:
        raise UsageError(
            "making TLS certificates needs the Python package cryptography:"
            " pip install 'seamless-dask[daskserver]'"
        ) from None
    authority = _load(folder, "ca.pem", "ca-key.pem")
    if authority is None or not _lasts(authority[0]):
        authority = _sign_authority(folder)
    certificate = _load(folder, "cert.pem", "key.pem")
    if certificate is None or not _holds(certificate[0], authority[0], names):
        _sign_certificate(folder, authority, names)


def _load(folder: str, cert: str, key: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey] | None:
    """Return a certificate and its key, None unless both are there and belong together."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(os.path.join(folder, cert), "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        with open(os.path.join(folder, key), "rb") as file:
            private = load_pem_private_key(file.read(), None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(private, EllipticCurvePrivateKey) or certificate.public_key() != private.public_key():
        return None
    return certificate, private


def _lasts(certificate: x509.Certificate) -> bool:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    return (
        certificate.not_valid_before_utc <= now
        and now + timedelta(days=RENEWAL_DAYS) < certificate.not_valid_after_utc
    )


def _holds(certificate: x509.Certificate, authority: x509.Certificate, names: list[str]) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return _lasts(certificate) and set(_general_names(names)) <= set(extension.value)


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    from ipaddress import ip_address

    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            with suppress(UnicodeError):  # no name by which anybody could ask: hosts may be called anything
                found.append(x509.DNSName(name.encode("idna").decode()))
    return found


def _sign_authority(folder: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # authorities of two daskservers must not be taken for each other when they stand in one file
    name = _name(f"seamless daskserver {os.urandom(4).hex()}")
    builder = _builder(name, name, key, AUTHORITY_DAYS).add_extension(x509.BasicConstraints(True, 0), True)
    certificate = builder.add_extension(_usage(signs_certificates=True), True).sign(key, hashes.SHA256())
    _save(folder, "ca.pem", "ca-key.pem", certificate, key)
    return certificate, key


def _sign_certificate(
    folder: str, authority: tuple[x509.Certificate, EllipticCurvePrivateKey], names: list[str]
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer, signing = authority
    key = ec.generate_private_key(ec.SECP256R1())
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(_name("seamless daskserver"), issuer.subject, key, CERTIFICATE_DAYS)
    for extension, critical in (
        (x509.BasicConstraints(False, None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage(both), False),
        (x509.SubjectAlternativeName(_general_names(names)), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical)
    _save(folder, "cert.pem", "key.pem", builder.sign(signing, hashes.SHA256()), key)


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the clocks of a cluster differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _save(
    folder: str, cert: str, key: str, certificate: x509.Certificate, private: EllipticCurvePrivateKey
) -> None:
    from cryptography.hazmat.primitives import serialization

    from hashserver.atomic import write_atomic

    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = private.private_bytes(pem, pkcs8, serialization.NoEncryption())
    # a crash between the two leaves a pair that does not belong together: the next start makes another
    write_atomic(os.path.join(folder, key), secret, 0o600)
    write_atomic(os.path.join(folder, cert), certificate.public_bytes(pem), 0o600)

"""Certificates, good and bad, of an authority of this run's own."""

import datetime as dt
import ipaddress
import ssl
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

# As DER has them: RFC 4055 5 and RFC 3279 2.2.1, which differ in the last number.
_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
_SHA1_WITH_RSA = bytes.fromhex("06092a864886f70d010105")
_SUBJECT = x509.Name.from_rfc4514_string("CN=weak")


def _identifier_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What Python 3.13 wants of every certificate."""
    its_own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(its_own)


class Tls(StrEnum):
    """How a server's TLS is."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WRONG_NAME = "wrong name"
    UNKNOWN_AUTHORITY = "unknown authority"
    SELF_SIGNED = "self-signed"
    INCOMPLETE_CHAIN = "without its intermediate certificate"
    OLD = "TLS 1.0 only"


class Certificates:
    """An authority that the sender is to trust (`ca_file`), and servers that it should, or should not."""

    def __init__(self, directory: Path) -> None:
        self.ca_file = directory / "ca.pem"
        self._directory = directory
        self._authority = trustme.CA(key_type=trustme.KeyType.RSA)  # as `weak_context` needs it
        self._authority.cert_pem.write_to_path(self.ca_file)
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        self._files = {
            Tls.GOOD: self._issue(Tls.GOOD),
            Tls.EXPIRED: self._issue(Tls.EXPIRED, not_before=now - 2 * day, not_after=now - day),
            Tls.NOT_YET_VALID: self._issue(Tls.NOT_YET_VALID, not_before=now + day, not_after=now + 2 * day),
            Tls.WRONG_NAME: self._issue(Tls.WRONG_NAME, "other.example"),
            Tls.UNKNOWN_AUTHORITY: self._issue(Tls.UNKNOWN_AUTHORITY, by=trustme.CA()),
            Tls.SELF_SIGNED: self._sign_itself(),
            Tls.INCOMPLETE_CHAIN: self._issue(
                Tls.INCOMPLETE_CHAIN, by=self._authority.create_child_ca(), certificates=1
            ),
        }

    def files(self, tls: Tls) -> tuple[Path, Path]:
        """The PEM files of a server's chain and key."""
        return self._files[Tls.GOOD if tls is Tls.OLD else tls]

    def context(self, tls: Tls) -> ssl.SSLContext:
        """What a server needs to speak it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls is Tls.OLD:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
        context.load_cert_chain(*self.files(tls))
        return context

    def weak_context(self, *, key_bits: int = 2048, is_sha1: bool = False) -> ssl.SSLContext:
        """What a server needs whose certificate is good, but for its RSA key or the digest that is signed."""
        issuer = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        signer = load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        assert isinstance(signer, rsa.RSAPrivateKey)
        key = rsa.generate_private_key(65537, key_bits)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder(issuer.subject, _SUBJECT, key.public_key(), 1)
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(names, critical=False)
            .add_extension(_identifier_of(issuer), critical=False)
            .sign(signer, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        if is_sha1:  # OpenSSL judges the digest before the signature, which is now wrong
            assert made.count(_SHA256_WITH_RSA) == 2
            made = made.replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
        path = self._directory / f"weak-{key_bits}-{is_sha1}.pem"
        path.write_text(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            + ssl.DER_cert_to_PEM_cert(made)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(path)
        return context

    def _issue(
        self,
        tls: Tls,
        host: str = "127.0.0.1",
        *,
        by: trustme.CA | None = None,
        certificates: int | None = None,
        **when: Any,
    ) -> tuple[Path, Path]:
        """`certificates` says how many of the chain are shown, from the server's own on."""
        issued = (by or self._authority).issue_cert(host, **when)
        chain, key = self._directory / f"{tls.name}.pem", self._directory / f"{tls.name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems[:certificates]))
        issued.private_key_pem.write_to_path(key)
        return chain, key

    def _sign_itself(self) -> tuple[Path, Path]:
        """An authority's own certificate, which nobody signed but itself, shown as a server's."""
        authority = trustme.CA()
        chain, key = self._directory / "self.pem", self._directory / "self.key"
        authority.cert_pem.write_to_path(chain)
        authority.private_key_pem.write_to_path(key)
        return chain, key

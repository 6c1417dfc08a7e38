"""One POST that was made, as history and health remember it. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class TlsFault(StrEnum):
    """Why there is no TLS with a receiver, as far as OpenSSL says so."""

    EXPIRED = "certificate-expired"
    NOT_YET_VALID = "certificate-not-yet-valid"
    WRONG_NAME = "wrong-name"
    UNKNOWN_ISSUER = "unknown-issuer"
    INCOMPLETE_CHAIN = "incomplete-chain"
    PROTOCOL_VERSION = "protocol-version"
    NO_TLS = "no-tls"
    CLIENT_CERTIFICATE = "client-certificate-wanted"
    CERTIFICATE_REFUSED = "certificate-refused"
    REFUSED = "handshake-refused"
    TOO_WEAK = "too-weak"


_IN_WORDS: dict[str, str] = {
    TlsFault.EXPIRED: "The receiver's certificate has expired",
    TlsFault.NOT_YET_VALID: "The receiver's certificate is not valid yet",
    TlsFault.WRONG_NAME: "The receiver's certificate is for another name",
    TlsFault.UNKNOWN_ISSUER: "The receiver's certificate is self-signed, or its authority is not public",
    # OpenSSL says the same of both, and does not give a chain that it refused.
    TlsFault.INCOMPLETE_CHAIN: "The issuer of the receiver's certificate is not known: the receiver must send"
    " its intermediate certificates, and their authority must be public",
    TlsFault.PROTOCOL_VERSION: "The receiver speaks neither TLS 1.2 nor TLS 1.3",
    TlsFault.NO_TLS: "The receiver does not speak TLS on this port",
    TlsFault.CLIENT_CERTIFICATE: "The receiver wants a client certificate",
    # Servers send bad_certificate where none was shown, but not there alone.
    TlsFault.CERTIFICATE_REFUSED: "The receiver refused a certificate: it probably wants one of its clients,"
    " and this system shows none; the receiver's log may say more",
    TlsFault.REFUSED: "The receiver refused the TLS handshake: it wants a client certificate, or shares no"
    " cipher",
    TlsFault.TOO_WEAK: "The receiver's TLS is too weak: RSA and Diffie-Hellman need 2,048 bits,"
    " and certificates a signature with SHA-256 or better",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """When it began, how long it took, and what came of it: a status code or an error class.

    A fault of TLS follows its class after a slash, in one word: `tls/certificate-expired`. So is it stored.
    """

    started_at_ms: int
    latency_ms: int
    status_code: int | None
    error_class: str | None

    @property
    def is_success(self) -> bool:
        """Whether the receiver acknowledged it."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def outcome(self) -> str:
        """In words: `HTTP 503`, or the error class, with the reason where it is known."""
        if self.status_code is not None:
            return f"HTTP {self.status_code}"
        return f"{self.plain_error_class}: {self.reason}" if self.reason else str(self.plain_error_class)

    @property
    def plain_error_class(self) -> str | None:
        """Without what follows a slash."""
        return self.error_class and self.error_class.partition("/")[0]

    @property
    def reason(self) -> str | None:
        """The fault of TLS in a sentence, where one is known."""
        return in_words((self.error_class or "").partition("/")[2])


def in_words(fault: str) -> str | None:
    """The sentence for a `TlsFault`; None for what is none, such as one of a newer version."""
    return _IN_WORDS.get(fault)

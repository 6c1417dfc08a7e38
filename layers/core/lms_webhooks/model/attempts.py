"""Describe one POST that was made: its status code or error, and what that response is about. Pure.

| response                                           | class     | what follows                              |
|----------------------------------------------------|-----------|-------------------------------------------|
| 2xx                                                | delivered | the delivery is recorded                  |
| 410                                                | gone      | the webhook is disabled                   |
| none, 3xx, 5xx, and 4xx that are about the endpoint | endpoint | its events stay pending; it is probed     |
| other 4xx                                          | event     | this event is set aside, the others go on |
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorClass(StrEnum):
    """Why a POST got no status code."""

    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden-address"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection-lost"
    INVALID_RESPONSE = "invalid-response"


class ResponseClass(StrEnum):
    """What a response is about."""

    DELIVERED = "delivered"
    GONE = "gone"
    ENDPOINT = "endpoint"
    EVENT = "event"


# 401 and 403: the receiver's configuration; 402: its account with somebody; 404, 405 and 421: its routing;
# 406, 411, 426 and 431: our headers and protocol, the same with each event; 407: its proxy; 408, 425 and 429:
# its load; 451: its lawyers. None of them is about the event that the request happened to carry.
_ENDPOINT_STATUS_CODES = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 408, 411, 421, 425, 426, 429, 431, 451}
)


def classify(status_code: int | None) -> ResponseClass:
    """Return the class of a response; None stands for no response at all."""
    if status_code is None:
        return ResponseClass.ENDPOINT
    if 200 <= status_code < 300:
        return ResponseClass.DELIVERED
    if status_code == 410:
        return ResponseClass.GONE
    if 400 <= status_code < 500 and status_code not in _ENDPOINT_STATUS_CODES:
        return ResponseClass.EVENT
    return ResponseClass.ENDPOINT


class TlsFault(StrEnum):
    """Why a TLS handshake with a receiver failed, as far as OpenSSL says."""

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


_TLS_FAULTS_IN_WORDS: dict[str, str] = {
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
    """One POST, as history and health keep it: when it began, its latency, and a status code or an error.

    `error_class` is an `ErrorClass`. A `TlsFault` follows it after a slash: `tls/certificate-expired`.
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
    def summary(self) -> str:
        """`HTTP 503`, or the error class, with the reason where it is known."""
        if self.status_code is not None:
            return f"HTTP {self.status_code}"
        return f"{self.plain_error_class}: {self.reason}" if self.reason else str(self.plain_error_class)

    @property
    def plain_error_class(self) -> str | None:
        """The error class without the `TlsFault`."""
        return self.error_class and self.error_class.partition("/")[0]

    @property
    def reason(self) -> str | None:
        """The `TlsFault` as a sentence, where one is known."""
        return describe_tls_fault((self.error_class or "").partition("/")[2])


def describe_tls_fault(fault: str) -> str | None:
    """Return a sentence about a `TlsFault`; None for an unknown one, such as one of a newer version."""
    return _TLS_FAULTS_IN_WORDS.get(fault)

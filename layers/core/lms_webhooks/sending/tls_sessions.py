"""Keep TLS sessions for the next connection to the same origin, which then needs no full handshake.

OpenSSL resumes a session without a look at the name that it was made with. So a session is offered to its
own origin only: scheme, name and port. We show no client certificate; one would belong to the key.

A resumed handshake proves no certificate again. So the age of a session counts from the handshake in which
its certificate was verified, through all resumptions since.
"""

import ssl
import threading
from collections import OrderedDict
from typing import NamedTuple

from lms_webhooks.clocks import Clocks, Moment
from lms_webhooks.sending.sockets import Origin

MAX_AGE_SECONDS = 300
_MAX_SESSIONS = 200  # some kilobytes each


class TlsSession(NamedTuple):
    """What lets a server skip the full handshake."""

    session: ssl.SSLSession
    verified_at: Moment
    """When its certificate was verified."""


class TlsSessions:
    """Sessions that no connection has used yet, by origin. Safe to share between threads."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._lock = threading.Lock()
        self._sessions: OrderedDict[Origin, list[TlsSession]] = OrderedDict()
        self._count = 0

    def take(self, origin: Origin) -> TlsSession | None:
        """Return the newest session of `origin`, and keep it no longer: each is used once (RFC 8446 C.4)."""
        with self._lock:
            sessions = self._sessions.get(origin)
            if not sessions:
                return None
            found = sessions.pop()
            self._count -= 1
            if not sessions:
                del self._sessions[origin]
        return found if self._clocks.seconds_since(found.verified_at) <= MAX_AGE_SECONDS else None

    def put(self, origin: Origin, session: TlsSession) -> None:
        """Keep `session`. One too many takes the place of the oldest of another origin."""
        with self._lock:
            self._sessions.setdefault(origin, []).append(session)
            self._sessions.move_to_end(origin)
            self._count += 1
            if self._count > _MAX_SESSIONS:
                oldest, sessions = next(iter(self._sessions.items()))
                del sessions[0]
                self._count -= 1
                if not sessions:
                    del self._sessions[oldest]

    def forget(self, origin: Origin) -> None:
        """Drop all sessions of `origin`."""
        with self._lock:
            self._count -= len(self._sessions.pop(origin, ()))

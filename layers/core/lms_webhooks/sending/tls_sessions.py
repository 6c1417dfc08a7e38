"""Keep the TLS session of each origin for some minutes: new connections to it need no full handshake.

OpenSSL resumes a session without a look at the name that it was made with. So a session is offered to its
own origin only: scheme, name and port. We show no client certificate; one would belong to the key.

A resumed handshake proves no certificate again. So a session is taken after a full handshake only, and its
age counts from then. Until it is old, all new connections use it. To take one costs half of what resumption
saves (docs/decisions/0025-one-tls-session-for-minutes.md).
"""

import ssl
from typing import Literal

from lms_webhooks.clocks import Clocks, ExpiringCache, Moment
from lms_webhooks.sending.sockets import Origin

MAX_AGE_SECONDS = 300
_MAX_ORIGINS = 200  # some kilobytes each
type _None = Literal[False]
_NONE: _None = False  # an origin to which no session is offered


class TlsSessions:
    """The sessions of the last minutes, by origin. Safe to share between threads."""

    def __init__(self, clocks: Clocks) -> None:
        self._known: ExpiringCache[Origin, ssl.SSLSession | _None] = ExpiringCache(
            max_age_seconds=MAX_AGE_SECONDS, max_weight=_MAX_ORIGINS, clocks=clocks
        )

    def find(self, origin: Origin) -> ssl.SSLSession | None:
        """Return the session to offer to `origin`."""
        return self._known.get(origin) or None

    def wants(self, origin: Origin) -> bool:
        """Whether nothing is known of `origin`. Then keep what it gives."""
        return self._known.get(origin) is None

    def keep(self, origin: Origin, session: ssl.SSLSession | None, verified_at: Moment) -> None:
        """Offer `session`, whose certificate was verified at `verified_at`, to `origin` until it is old.

        None, of a server that gives none, asks for none either until then.
        """
        self._known.put(origin, session or _NONE, since=verified_at)

    def stop(self, origin: Origin) -> None:
        """Drop the session of `origin`, and neither offer nor keep another for as long as one is kept.

        After an error, or when the server did not take it. Servers that do not know each other's sessions,
        or take each once, would cost more with sessions than without.
        """
        self._known.put(origin, _NONE)

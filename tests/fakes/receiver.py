"""The scripted receiver of the conformance kit, for events: each request knows the events in it."""

import json
import ssl
from pathlib import Path
from typing import Any

from tests.conformance import receiver as kit
from tests.conformance.behaviours import (
    answer,
    close_before_answer,
    gated,
    gone,
    hang,
    redirect,
    reset_before_answer,
    too_many_requests,
    trickle_header,
)
from tests.conformance.receiver import Behaviour, Wire

__all__ = [
    "Behaviour",
    "Receiver",
    "Request",
    "Script",
    "Wire",
    "answer",
    "close_before_answer",
    "gated",
    "gone",
    "hang",
    "redirect",
    "reset_before_answer",
    "too_many_requests",
    "trickle_header",
]


class Request(kit.Request):
    """One request, as the webhook's owner reads it."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that it carries."""
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def event_ids(self) -> list[str]:
        """Their ids, in order."""
        return [event["eventId"] for event in self.events]


type Script = kit.Script[Request]


class Receiver(kit.Receiver[Request]):
    """Responds 200 unless a script says otherwise. A context manager."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        certificate: tuple[Path, Path] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`certificate` is the PEM files of chain and key; with them the receiver speaks TLS."""
        tls = None
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
        super().__init__(script or answer(), request_type=Request, tls=tls, host=host, port=port)

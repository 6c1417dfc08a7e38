"""No request leaves for where a webhook must not point: when it is made, changed, tried, and sent to.

In a network in which every address would respond, with a name server of its own, and with the switch for
loopback off. What was connected to is read off the wire.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from lms_webhooks.model.attempts import ErrorClass
from lms_webhooks.sending import sockets
from lms_webhooks.sending.sender import PostResult, Sender, Timeouts
from lms_webhooks.sending.targets import ForbiddenTarget, check_url
from lms_webhooks.sending.webhook_request import WebhookRequest
from tests.fakes.enclosed_network import EnclosedNetwork
from tests.fakes.name_server import Addresses, NameServer
from tests.fakes.receiver import Receiver, answer, redirect
from tests.patience import PATIENCE_SECONDS
from tests.unit.admin_client import VALID, AdminClient, admin_client
from tests.unit.hostile_targets import (
    HOSTILE_NAMES,
    HOSTILE_URLS,
    METADATA,
    PUBLIC,
    PUBLIC_V4,
    PUBLIC_V6,
    WRAPPED,
)

DOMAIN = "hooks.example.com"
GOOD = f"good.{DOMAIN}"
PATIENCE = Timeouts(PATIENCE_SECONDS, PATIENCE_SECONDS, PATIENCE_SECONDS)

_REBINDING: dict[str, Addresses] = {
    f"turns.{DOMAIN}": [[PUBLIC_V4], [METADATA]],
    f"turns-v6.{DOMAIN}": [[PUBLIC_V4], ["fd00:ec2::254"]],
    f"turns-home.{DOMAIN}": [[PUBLIC_V4], ["127.0.0.1"]],
    f"turns-mixed.{DOMAIN}": [[PUBLIC_V4], [PUBLIC_V4, "10.0.0.1"]],
}
_NAMES: dict[str, Addresses] = {
    **{f"{label}.{DOMAIN}": addresses for label, addresses in HOSTILE_NAMES.items()},
    **_REBINDING,
    GOOD: [PUBLIC_V4],
    f"good-v6.{DOMAIN}": [PUBLIC_V6],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "a9fea9fe.rbndr.example": [METADATA],
    "xn--bcher-kva.example": ["192.168.0.1"],
}
_ALIASES = {f"alias.{DOMAIN}": f"aws-metadata.{DOMAIN}"}
FORBIDDEN_NAMES = [
    *(f"{label}.{DOMAIN}" for label in HOSTILE_NAMES),
    "127.0.0.1.nip.example",
    "a9fea9fe.rbndr.example",
    "xn--bcher-kva.example",
    *_ALIASES,
]


@dataclass
class Outside:
    """The enclosed network, and whom one meets there."""

    network: EnclosedNetwork
    names: NameServer
    receiver: Receiver
    ca_file: Path

    def post(self, url: str, *, sender: Sender | None = None) -> PostResult:
        """Send one POST, by a sender that knows no connection yet."""
        used = sender or Sender(loopback_allowed=False, trusted_ca_file=str(self.ca_file))
        try:
            return self.network.run(lambda: used.post(WebhookRequest(url, {}, b"{}"), timeouts=PATIENCE))
        finally:
            if sender is None:
                used._adapter.close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert(f"*.{DOMAIN}", PUBLIC_V4, PUBLIC_V6)
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    with ExitStack() as stack:
        network = stack.enter_context(EnclosedNetwork())
        # Those that are free already would ask the name servers of the machine.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sockets, "_free_threads", [])

        def name_server() -> NameServer:
            return NameServer(_NAMES, aliases=_ALIASES)

        def receiver() -> Receiver:
            # On every address, as 0.0.0.0 there means.
            return Receiver(certificate=(chain, key), host="0.0.0.0", port=443)  # noqa: S104

        names = network.run(name_server)
        stack.callback(network.run, names.__exit__)
        listening = network.run(receiver)
        stack.callback(network.run, listening.__exit__)
        yield Outside(network, names, listening, folder / "ca.pem")


@pytest.fixture
def wire(outside: Outside) -> Outside:
    """Outside, with nothing on the wire yet, and a receiver that takes everything."""
    outside.network.connections()
    outside.receiver.script = answer(204, keep_alive=False)
    return outside


@pytest.fixture(scope="module")
def admin(outside: Outside) -> Iterator[AdminClient]:
    with admin_client() as admin:
        admin.sender = Sender(loopback_allowed=False, trusted_ca_file=str(outside.ca_file))
        yield admin
        admin.sender._adapter.close()


@pytest.fixture(scope="module")
def saved(admin: AdminClient) -> str:
    """A webhook of the admin's with a target that is allowed."""
    return str(admin.create().body["webhookId"])


# The network itself: what would be connected to is connected to, and seen


@pytest.mark.parametrize("address", [PUBLIC_V4, METADATA, "127.0.0.1", "10.0.0.1", "100.64.0.1", "192.0.2.1"])
def test_every_address_would_answer(wire: Outside, address: str) -> None:
    """Or what follows would prove nothing."""
    before = wire.receiver.connections
    wire.network.run(lambda: socket.create_connection((address, 443), timeout=PATIENCE_SECONDS).close())
    assert wire.receiver.wait_for(lambda: wire.receiver.connections > before, PATIENCE_SECONDS)
    assert wire.network.connections() == [(address, 443)]


@pytest.mark.parametrize("address", ["fd00:ec2::254", "::1", PUBLIC_V6])
def test_every_address_of_ipv6_has_a_way_there(wire: Outside, address: str) -> None:
    with pytest.raises(ConnectionRefusedError):  # the receiver listens on IPv4 only
        wire.network.run(lambda: socket.create_connection((address, 443), timeout=PATIENCE_SECONDS))
    assert wire.network.connections() == [(address, 443)]


@pytest.mark.parametrize("host", [GOOD, PUBLIC_V4])
def test_what_is_public_gets_its_request(wire: Outside, host: str) -> None:
    assert wire.post(f"https://{host}/").status_code == 204
    assert wire.network.connections() == [(PUBLIC_V4, 443)]


# What an admin types


def test_a_hostile_url_is_refused_at_every_call_and_by_the_sender(
    wire: Outside, admin: AdminClient, saved: str, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    # One for all: it knows no connection as long as none is opened, and to make one takes 16 ms.
    sender = Sender(loopback_allowed=False, trusted_ca_file=str(wire.ca_file))
    for url, rule in HOSTILE_URLS:
        calls = [
            ("POST", "/v1/webhooks", VALID | {"targetUrl": url}),
            ("PATCH", f"/v1/webhooks/{saved}", {"targetUrl": url}),
            ("POST", "/v1/webhooks/test", VALID | {"targetUrl": url}),
        ]
        for method, path, body in calls:
            got = wire.network.run(lambda call=(method, path, body): admin.call(*call))  # type: ignore[misc]
            if "\ud800" in url:
                assert got.status == 400, (url, method, path)  # a lone surrogate is no JSON text
            else:
                assert got.status == 422, (url, method, path, got.text)
                assert got.errors["/targetUrl"].startswith(rule), (url, method, path)
        sent = wire.post(url, sender=sender)
        assert (sent.status_code, sent.error_class) == (None, ErrorClass.FORBIDDEN_ADDRESS), url
        assert sent.violated_rule.startswith(rule), url
        assert wire.network.connections() == [], url
        assert admin.posted == [], url
        tried += len(calls) + 1
    sender._adapter.close()
    record_property("hostile URLs", len(HOSTILE_URLS))
    record_property("calls and sends with them refused", tried)


# What a name stands for


@pytest.mark.parametrize("name", FORBIDDEN_NAMES)
def test_a_name_that_stands_for_a_forbidden_address_gets_no_connection(
    wire: Outside, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Alone or among others, of whichever family, by whatever alias. Allowed ones get none either."""
    sent = wire.post(f"https://{name}/")
    assert (sent.status_code, sent.error_class) == (None, ErrorClass.FORBIDDEN_ADDRESS)
    assert sent.violated_rule.startswith((PUBLIC, WRAPPED))
    assert wire.network.connections() == []
    assert wire.names.times_asked(name) == 1
    record_property("hostile names", 1)


def test_a_test_send_to_such_a_name_tells_the_admin_the_rule(wire: Outside, admin: AdminClient) -> None:
    body = VALID | {"targetUrl": f"https://aws-metadata.{DOMAIN}/latest/meta-data/"}
    try:
        got = wire.network.run(lambda: admin.call("POST", "/v1/webhooks/test", body))
        assert got.status == 200
        assert (got.body["delivered"], got.body["errorClass"]) == (False, "forbidden-address")
        assert got.body["reason"].startswith(PUBLIC)
        assert METADATA not in got.text
        assert wire.network.connections() == []
    finally:
        admin.posted.clear()


@pytest.mark.parametrize("name", _REBINDING)
def test_a_name_that_turns_hostile_gets_nothing_more(
    wire: Outside, name: str, record_property: Callable[[str, object], None]
) -> None:
    """DNS rebinding: the first look-up is for the check, attackers hope, the second for the connection."""
    sender = Sender(loopback_allowed=False, trusted_ca_file=str(wire.ca_file))
    first = wire.post(f"https://{name}/", sender=sender)
    assert first.status_code == 204
    assert wire.names.times_asked(name) == 1
    assert wire.network.connections() == [(PUBLIC_V4, 443)]
    for _ in range(2):
        assert wire.post(f"https://{name}/", sender=sender).error_class is ErrorClass.FORBIDDEN_ADDRESS
    assert wire.network.connections() == []
    sender._adapter.close()
    record_property("hostile names", 1)


# What a receiver answers


@pytest.mark.parametrize(
    "location",
    [
        f"http://{METADATA}/latest/meta-data/iam/security-credentials/",
        f"https://{METADATA}/",
        "https://[fd00:ec2::254]/",
        f"//{METADATA}/",
        f"https://aws-metadata.{DOMAIN}/",
        "https://127.0.0.1/",
        f"https://good-v6.{DOMAIN}/",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_nowhere(
    wire: Outside, status: int, location: str, record_property: Callable[[str, object], None]
) -> None:
    wire.receiver.script = redirect(location, status=status)
    sent = wire.post(f"https://{GOOD}/")
    assert (sent.status_code, sent.error_class) == (status, None)
    assert wire.network.connections() == [(PUBLIC_V4, 443)]
    record_property("redirects", 1)


def test_no_proxy_of_the_environment_is_used(wire: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{METADATA}:3128")
    assert wire.post(f"https://{GOOD}/").status_code == 204
    assert wire.network.connections() == [(PUBLIC_V4, 443)]


# What two parsers read


_PIECES = st.sampled_from([
    "https://", "http://", "//", "/", "\\", "@", ":", "443", "#", "?", "%", "%40", "%2f", "[", "]", "::1",
    ".", "example.com", "evil.example", "127.0.0.1", "0x7f.1", "localhost", "xn--", ";", "&", "=", "*", "$",
])  # fmt: skip


@given(st.lists(_PIECES, max_size=10).map(lambda pieces: "https://" + "".join(pieces)))
def test_what_is_checked_is_what_is_connected_to(url: str) -> None:
    """One parser decides and connects, Python's. Another, urllib3's, reads the same."""
    try:
        checked = check_url(url, loopback_allowed=False)
    except ForbiddenTarget:
        return
    opened = parse_url(url)
    assert (opened.host or "").strip("[]").lower() == checked.hostname
    assert (opened.port or 443) == (checked.port or 443)
    assert opened.auth is None

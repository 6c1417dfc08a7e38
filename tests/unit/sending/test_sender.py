"""Sending one POST to receivers of every kind, over real sockets on this machine.

What comes of each thing that receivers do is the conformance kit's to say: see tests/conformance. Here is
the rest: what is sent, kept and reused, where connections may go, and that no call leaves a trace on another.
"""

import contextlib
import gc
import gzip
import resource
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from lms_webhooks.clocks import Clocks
from lms_webhooks.model.attempts import ErrorClass, TlsFault, describe_tls_fault
from lms_webhooks.sending import connections, sockets
from lms_webhooks.sending.sender import (
    BODY_READ_SECONDS,
    KEPT_RESPONSE_BYTES,
    MAX_RESPONSE_BYTES,
    PostResult,
    Sender,
    Timeouts,
)
from lms_webhooks.sending.sockets import OutOfResources
from lms_webhooks.sending.webhook_request import WebhookRequest
from tests.conformance import behaviours as fake
from tests.conformance.behaviours import answer
from tests.conformance.certificates import Certificates, Tls
from tests.fakes.receiver import Behaviour, Receiver, Script
from tests.patience import PATIENCE_SECONDS

DEADLINE_SECONDS = 0.4
SLACK_SECONDS = 30.0  # of a busy machine; whatever else might end these calls takes a minute
BODY = b'{"accountId":1010,"events":[{"eventId":"e-1"}]}'

type Post = Callable[..., PostResult]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def sender(certificates: Certificates) -> Iterator[Sender]:
    made = Sender(loopback_allowed=True, trusted_ca_file=str(certificates.ca_file))
    yield made
    made._adapter.close()


def within(seconds: float) -> Timeouts:
    """As long for the connection, for the response, and in all: what the dispatcher allows."""
    return Timeouts(seconds, seconds, seconds)


@pytest.fixture
def post(sender: Sender) -> Post:
    def post_to(url: str, *, deadline_seconds: float = PATIENCE_SECONDS) -> PostResult:
        return sender.post(WebhookRequest(url, {"x-test": "yes"}, BODY), timeouts=within(deadline_seconds))

    return post_to


@pytest.fixture(params=["http", "https"])
def receive(
    request: pytest.FixtureRequest, certificates: Certificates
) -> Iterator[Callable[[Script], Receiver]]:
    """Makes receivers; each test that uses it runs over plain HTTP and over TLS."""
    with contextlib.ExitStack() as stack:
        certificate = certificates.files(Tls.GOOD) if request.param == "https" else None
        yield lambda script: stack.enter_context(Receiver(script, certificate=certificate))


type Receive = Callable[[Script], Receiver]


LOST, BROKEN, TIMEOUT = ErrorClass.CONNECTION_LOST, ErrorClass.INVALID_RESPONSE, ErrorClass.TIMEOUT


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, Behaviour) else None


@pytest.mark.parametrize(
    "behaviour",
    [
        fake.hang_in_body(500, body=b"half"),
        fake.wrong_content_length(500, body=b"half"),
        fake.reset_in_body(500),
    ],
    ids=name_of,
)
def test_of_a_failure_s_body_what_came_is_kept(post: Post, receive: Receive, behaviour: Behaviour) -> None:
    receiver = receive(behaviour)
    got = post(receiver.url(), deadline_seconds=DEADLINE_SECONDS)
    assert got.status_code == 500
    assert "half".startswith(got.body)


# What is sent


@pytest.mark.parametrize(
    "target", ["/", "/hooks", "/a%20b/%C3%A9?x=1&y=%2F", "/a/../b//c/./d?q=a/../b", "/?", "/;p=1"]
)
def test_what_is_sent_is_exactly_the_message(sender: Sender, target: str) -> None:
    body = '{"é":1.10}'.encode()
    headers = {"content-type": "application/json", "user-agent": "lms", "authorization": "Basic YTpi"}
    with Receiver() as receiver:
        assert sender.post(
            WebhookRequest(receiver.url(target), headers, body), timeouts=within(PATIENCE_SECONDS)
        ).is_success
        (request,) = receiver.requests
        assert request.method == "POST"
        assert request.path == (target if target != "/?" else "/")
        assert request.body == body
        assert request.headers == {
            **headers,
            "host": f"127.0.0.1:{receiver.port}",
            "content-length": str(len(body)),
            "accept-encoding": "identity",
        }


def test_no_proxy_or_netrc_of_the_environment_is_used(
    post: Post, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login ada password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver() as receiver:
        assert post(receiver.url()).is_success
        assert "authorization" not in receiver.requests[0].headers


def test_a_large_request_goes_out_whole(sender: Sender, receive: Receive) -> None:
    body = bytes(256 * 1024)
    receiver = receive(answer())
    assert sender.post(WebhookRequest(receiver.url(), {}, body), timeouts=within(PATIENCE_SECONDS)).is_success
    assert receiver.requests[0].body == body


# What is read


@pytest.mark.parametrize("value", ["7", "0", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
@pytest.mark.parametrize("status_code", [429, 503])
def test_retry_after_is_handed_on_as_it_came(post: Post, status_code: int, value: str) -> None:
    with Receiver(answer(status_code, {"Retry-After": value})) as receiver:
        assert post(receiver.url()).retry_after == value
    with Receiver(answer(status_code)) as receiver:
        assert post(receiver.url()).retry_after == ""


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", ""),
        (b"why", "why"),
        (b"x" * 1024, "x" * 1024),
        (b"x" * 1025, "x" * 1024),
        (b"x" * 200_000, "x" * 1024),
        (b"\xff\x00\xc3\xa9", "\ufffd\x00é"),
        (b"x" * 1023 + "é".encode(), "x" * 1023),
        (b"x" * 1021 + "😀".encode(), "x" * 1021),
        (b"x" * 1020 + "😀".encode(), "x" * 1020 + "😀"),
    ],
)
def test_of_a_failure_one_kibibyte_is_kept_and_of_a_success_nothing(
    post: Post, body: bytes, kept: str
) -> None:
    assert KEPT_RESPONSE_BYTES == 1024
    for headers, sent in (({}, body), ({"content-encoding": "gzip"}, gzip.compress(body))):
        with Receiver([answer(400, headers, sent), answer(200, headers, sent)]) as receiver:
            assert post(receiver.url()).body == kept
            assert post(receiver.url()).body == ""


def test_nor_more_of_what_decompresses_to_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    read = connections.HttpResponse.read
    pieces: list[bytes] = []

    def counted(response: connections.HttpResponse, most_bytes: int) -> bytes:
        pieces.append(read(response, most_bytes))
        return pieces[-1]

    monkeypatch.setattr(connections.HttpResponse, "read", counted)
    empty_blocks = b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * 200_000
    with Receiver(answer(500, {"content-encoding": "deflate"}, empty_blocks)) as receiver:
        result = post(receiver.url())
    assert (result.status_code, result.body) == (500, "")
    assert sum(map(len, pieces)) == MAX_RESPONSE_BYTES


@pytest.mark.parametrize(
    "behaviour",
    [
        fake.gzip_bomb(500),
        fake.endless_body(500),
        fake.endless_body(500, chunked=False),
        answer(500, body=bytes(1 << 20)),
    ],
    ids=name_of,
)
def test_no_more_than_64_kib_is_read_decompressed(
    post: Post, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    read = urllib3.response.HTTPResponse.read
    amounts: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> bytes:
        data = read(*args, **kwargs)
        amounts.append(len(data))
        return data

    monkeypatch.setattr(urllib3.response.HTTPResponse, "read", counted)
    with Receiver(behaviour) as receiver:
        tracemalloc.start()
        got = post(receiver.url())
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert got.status_code == 500
        assert len(got.body) == 1024
        assert sum(amounts) == MAX_RESPONSE_BYTES == 64 * 1024
        assert peak_bytes < 8 << 20
        assert receiver.wait_for(lambda: receiver.open_connections == 0, PATIENCE_SECONDS), (
            "what is unread is closed"
        )


@pytest.mark.parametrize("line", [b"no colon SECRET", b": SECRET", b"SE CRET: x", b" SECRET"])
def test_neither_url_nor_answer_gets_into_a_log(
    post: Post, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    """urllib3 warns of headers that it cannot read, and quotes them."""
    with Receiver(fake.raw(b"HTTP/1.1 200 OK\r\n" + line + b"\r\ncontent-length: 0\r\n\r\n")) as receiver:
        assert post(receiver.url("/hooks?token=SECRET")).is_success
    assert caplog.records == []


# Connections


def test_connections_are_kept_alive(post: Post, receive: Receive) -> None:
    receiver = receive(
        [answer(200, body=b"x" * 1000), answer(204), answer(500, body=b"y" * 60_000), answer()]
    )
    for _ in range(20):
        assert post(receiver.url()).error_class is None
    assert len(receiver.requests) == 20
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(keep_alive=False),
        answer(version="1.0"),
        answer(500, body=b"x" * 100_000),
        fake.close_after_answer(),
    ],
    ids=name_of,
)
def test_a_connection_that_may_not_be_kept_is_not(post: Post, receive: Receive, behaviour: Behaviour) -> None:
    receiver = receive(behaviour)
    for count in range(1, 4):
        assert post(receiver.url()).error_class is None
        assert receiver.wait_for(lambda: receiver.open_connections == 0, PATIENCE_SECONDS)
        assert receiver.connections == len(receiver.requests) == count


def test_parallel_calls_share_no_connection_and_leave_them_for_later_ones(
    post: Post, receive: Receive
) -> None:
    gate = threading.Event()
    receiver = receive(fake.gated(gate, answer()))
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(post, receiver.url("/hooks")) for _ in range(8)]
        assert receiver.wait_for_requests(8)
        gate.set()
        assert all(call.result().is_success for call in calls)
        assert receiver.max_in_flight("/hooks") == receiver.connections == 8
        list(pool.map(lambda _: post(receiver.url("/hooks")), range(100)))
    assert receiver.connections == 8


def test_a_connection_idle_for_too_long_is_not_used_again(
    post: Post, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_IDLE_SECONDS", 0)
    receiver = receive(answer())
    for _ in range(3):
        assert post(receiver.url()).is_success
    assert receiver.connections == len(receiver.requests) == 3


def test_nor_one_that_only_the_wall_clock_calls_idle(
    post: Post, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda froze the process for an hour, and its monotonic clock with it."""
    receiver = receive(answer())
    assert post(receiver.url()).is_success
    monkeypatch.setattr(Clocks, "seconds_since", lambda *_: 3600)
    assert post(receiver.url()).is_success
    assert receiver.connections == 2


LOSES_REUSED = [fake.close_before_answer(), fake.reset_before_answer()]


@pytest.mark.parametrize("losing", LOSES_REUSED, ids=name_of)
def test_a_reused_connection_that_is_lost_is_replaced_once(
    post: Post, receive: Receive, losing: Behaviour
) -> None:
    receiver = receive([answer(), losing, answer(201)])
    assert post(receiver.url()).status_code == 200
    assert post(receiver.url()).status_code == 201
    assert [request.connection for request in receiver.requests] == [0, 0, 1]
    assert {request.body for request in receiver.requests} == {BODY}


def test_the_second_try_goes_over_a_new_connection_though_others_are_idle(
    post: Post, receive: Receive
) -> None:
    """The receiver drops every kept-alive connection that is used again; five of them are at hand."""
    gate = threading.Event()
    receiver = receive(fake.gated(gate, answer()))
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(post, receiver.url()) for _ in range(5)]
        assert receiver.wait_for_requests(5)
        gate.set()
        assert all(call.result().is_success for call in calls)
    receiver.forget()
    receiver.script = fake.close_before_answer()
    assert post(receiver.url()).error_class is LOST
    assert len(receiver.requests) == 2
    assert receiver.requests[0].connection < 5
    assert receiver.requests[1].connection == 5


@pytest.mark.parametrize(
    ("behaviour", "error_class"),
    [
        (fake.truncated_header(), LOST),
        (fake.truncated_status_line(), LOST),
        (fake.reset_in_header(), LOST),
        (fake.interim(103, then=fake.close_before_answer()), LOST),
        (fake.garbage(), BROKEN),
        (fake.hang(), TIMEOUT),
    ],
    ids=name_of,
)
def test_a_reused_connection_on_which_something_else_goes_wrong_is_a_failure(
    post: Post, receive: Receive, behaviour: Behaviour, error_class: ErrorClass
) -> None:
    receiver = receive([answer(), behaviour, answer()])
    assert post(receiver.url()).is_success
    deadline_seconds = DEADLINE_SECONDS if error_class is TIMEOUT else PATIENCE_SECONDS
    assert post(receiver.url(), deadline_seconds=deadline_seconds).error_class is error_class
    assert len(receiver.requests) == 2
    assert post(receiver.url()).is_success, "and the connection is gone with it"
    assert receiver.connections == 2


def test_a_reused_connection_that_is_lost_late_is_a_failure(
    post: Post, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that dies of an event must not get it twice for each attempt."""
    monkeypatch.setattr(connections, "_STALE_SECONDS", 0)
    receiver = receive([answer(), fake.close_before_answer(), answer()])
    assert post(receiver.url()).is_success
    assert post(receiver.url()).error_class is LOST
    assert len(receiver.requests) == 2


def test_the_second_try_has_time_to_connect_whatever_the_first_took(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response must be there a second after the request; the name server alone takes longer than that."""
    look_up = socket.getaddrinfo
    with Receiver([answer(), fake.close_before_answer(), answer(201)]) as receiver:
        message = WebhookRequest(receiver.url(host="localhost"), {}, BODY)
        assert sender.post(message, timeouts=within(PATIENCE_SECONDS)).is_success

        def look_up_slowly(*args: Any, **kwargs: Any) -> Any:
            time.sleep(1.2)
            return look_up(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", look_up_slowly)
        timeouts = Timeouts(connect_seconds=10, response_seconds=1, total_seconds=PATIENCE_SECONDS)
        assert sender.post(message, timeouts=timeouts).status_code == 201


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """The process may not open another file or socket."""
    _, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as free:
        lowest = free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_our_own_lack_of_descriptors_is_no_fault_of_the_receiver(post: Post, host: str) -> None:
    """For a name, getaddrinfo says then that there is no such one."""
    with no_more_descriptors(), pytest.raises(OutOfResources, match="Too many open files"):
        post(f"http://{host}:8080/")
    with Receiver() as receiver:
        assert post(receiver.url(host=host)).status_code == 200


def test_our_own_lack_of_threads_is_no_fault_of_the_receiver(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Receiver() as receiver:
        monkeypatch.setattr(threading.Thread, "start", start)
        monkeypatch.setattr(sockets, "_free_threads", [])
        with pytest.raises(OutOfResources, match="can't start new thread"):
            post(receiver.url(host="localhost"))


def test_what_comes_while_a_connection_is_idle_answers_nothing(
    sender: Sender, post: Post, receive: Receive
) -> None:
    """Some servers send a 408 before they close a connection that nobody used."""
    late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"
    unasked = fake.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", late, pause_seconds=0.1)
    receiver = receive([unasked, answer(201)])
    assert post(receiver.url()).status_code == 200
    (idle,) = [each for of_origin in sender._adapter.connections._idle.values() for each in of_origin]
    assert receiver.wait_for(lambda: not idle.has_no_input(), PATIENCE_SECONDS)
    assert post(receiver.url()).status_code == 201
    assert receiver.connections == 2


def test_the_oldest_idle_connection_makes_room(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MAX_IDLE", 3)
    with contextlib.ExitStack() as stack:
        receivers = [stack.enter_context(Receiver()) for _ in range(5)]
        for receiver in receivers:
            assert post(receiver.url()).is_success
        first, second, *others = receivers
        assert first.wait_for(lambda: first.open_connections == 0, PATIENCE_SECONDS)
        assert second.wait_for(lambda: second.open_connections == 0, PATIENCE_SECONDS)
        assert [receiver.open_connections for receiver in others] == [1, 1, 1]


@pytest.mark.parametrize("value", ["a\r\nx-more: b", "a\nb", "a\rb"])
def test_a_header_with_a_line_break_is_never_sent(sender: Sender, value: str) -> None:
    with Receiver() as receiver:
        message = WebhookRequest(receiver.url(), {"x-static": value}, BODY)
        assert sender.post(message, timeouts=within(PATIENCE_SECONDS)).error_class is BROKEN
        assert receiver.requests == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_no_file_stays_open_over_many_calls_that_fail(receive: Receive, certificates: Certificates) -> None:
    behaviours = [
        answer(),
        answer(500, body=b"x" * 100_000),
        answer(version="1.0"),
        fake.reset_before_answer(),
        fake.reset_in_body(),
        fake.close_before_answer(),
        fake.truncated_header(),
        fake.garbage(),
        fake.gzip_bomb(mebibytes=1),
        fake.endless_body(),
        fake.hang(),
        fake.hang_in_body(),
        fake.trickle_body(content_length=None),
        fake.interim(103),
    ]
    receiver = receive(lambda request: behaviours[int(request.path[1:]) % len(behaviours)])
    refused = socket.create_server(("127.0.0.1", 0))
    refused_url = f"http://127.0.0.1:{refused.getsockname()[1]}/"
    refused.close()
    gc.collect()
    before = open_files()
    sender = Sender(loopback_allowed=True, trusted_ca_file=str(certificates.ca_file))

    def one(index: int) -> None:
        url = refused_url if index % 20 == 0 else receiver.url(f"/{index}")
        sender.post(WebhookRequest(url, {}, BODY), timeouts=within(0.25))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(500)))
    assert receiver.connections > 100
    idle = sender._adapter.connections._idle_count
    assert receiver.wait_for(lambda: receiver.open_connections == idle, PATIENCE_SECONDS), (
        "only idle ones are open"
    )
    sender._adapter.close()
    gc.collect()
    assert receiver.wait_for(lambda: receiver.open_connections == 0, PATIENCE_SECONDS)
    assert open_files() == before


# TLS


def test_an_authority_that_was_not_given_is_not_trusted(certificates: Certificates) -> None:
    sender = Sender(loopback_allowed=True)
    with Receiver(certificate=certificates.files(Tls.GOOD)) as receiver:
        got = sender.post(WebhookRequest(receiver.url(), {}, BODY), timeouts=within(PATIENCE_SECONDS))
        assert got.error_class is ErrorClass.TLS
        assert receiver.requests == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_receiver_learns_by_an_alert_why_there_is_no_connection(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.context(Tls.GOOD)
    context.minimum_version = context.maximum_version = version

    def shake_hands(accepted: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            context.wrap_socket(accepted, server_side=True)

    with _serving(shake_hands) as url:
        got = Sender(loopback_allowed=True).post(
            WebhookRequest(url, {}, BODY), timeouts=within(PATIENCE_SECONDS)
        )
    assert got.error_class is ErrorClass.TLS


FAULTS = {
    Tls.EXPIRED: TlsFault.EXPIRED,
    Tls.NOT_YET_VALID: TlsFault.NOT_YET_VALID,
    Tls.WRONG_NAME: TlsFault.WRONG_NAME,
    Tls.UNKNOWN_AUTHORITY: TlsFault.INCOMPLETE_CHAIN,  # OpenSSL does not tell the two apart
    Tls.SELF_SIGNED: TlsFault.UNKNOWN_ISSUER,
    Tls.INCOMPLETE_CHAIN: TlsFault.INCOMPLETE_CHAIN,
    Tls.OLD: TlsFault.PROTOCOL_VERSION,
}


def test_each_bad_certificate_has_its_fault() -> None:
    assert set(FAULTS) == set(Tls) - {Tls.GOOD}


@pytest.mark.parametrize(("tls", "fault"), FAULTS.items())
def test_it_is_said_what_is_wrong_with_tls(
    tls: Tls, fault: TlsFault, post: Post, certificates: Certificates
) -> None:
    got = _posted_to(certificates.context(tls), post)
    assert (got.error_class, got.tls_fault) == (ErrorClass.TLS, fault)
    assert describe_tls_fault(fault)


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        (ssl.TLSVersion.TLSv1_2, TlsFault.REFUSED),  # whose alert is of any kind
        (ssl.TLSVersion.TLSv1_3, TlsFault.CLIENT_CERTIFICATE),
    ],
)
def test_a_receiver_that_wants_a_client_certificate_is_said_to(
    version: ssl.TLSVersion, fault: TlsFault, post: Post, certificates: Certificates
) -> None:
    context = certificates.context(Tls.GOOD)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    got = _posted_to(context, post)
    assert (got.error_class, got.tls_fault) == (ErrorClass.TLS, fault)


# Descriptions of RFC 5246 7.2 and RFC 8446 6, of a server that answers the ClientHello with nothing else.
@pytest.mark.parametrize(
    ("alert", "fault"),
    [
        (40, TlsFault.REFUSED),  # handshake_failure
        (42, TlsFault.CERTIFICATE_REFUSED),  # bad_certificate: Java and older Go, where none is shown
        (43, TlsFault.CERTIFICATE_REFUSED),  # unsupported_certificate
        (46, TlsFault.CERTIFICATE_REFUSED),  # certificate_unknown
        (48, TlsFault.CERTIFICATE_REFUSED),  # unknown_ca
        (70, TlsFault.PROTOCOL_VERSION),  # protocol_version
        (71, TlsFault.REFUSED),  # insufficient_security
        (112, TlsFault.WRONG_NAME),  # unrecognized_name
        (116, TlsFault.CLIENT_CERTIFICATE),  # certificate_required
        (80, None),  # internal_error, which says nothing
    ],
)
def test_an_alert_of_the_receiver_has_its_fault(alert: int, fault: TlsFault | None, post: Post) -> None:
    def refuse(accepted: socket.socket) -> None:
        accepted.recv(4096)
        accepted.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))
        _keep_end_back(accepted)

    with _serving(refuse) as url:
        got = post(url)
    assert (got.error_class, got.tls_fault) == (ErrorClass.TLS, fault)


# The second Oakley group (RFC 2409 6.2), of 1,024 bits: Java 7 had it, and servers that were set up long ago.
_OAKLEY_2 = """\
-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
"""


@pytest.mark.parametrize("weakness", ["key", "digest", "diffie-hellman"])
def test_what_is_too_weak_is_said_to_be(
    weakness: str, post: Post, certificates: Certificates, tmp_path: Path
) -> None:
    if weakness == "key":
        context = certificates.weak_context(key_bits=1024)
    elif weakness == "digest":
        context = certificates.weak_context(is_sha1=True)
    else:
        context = certificates.weak_context()
        context.set_ciphers("DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        file = tmp_path / "group.pem"
        file.write_text(_OAKLEY_2)
        context.load_dh_params(str(file))
    got = _posted_to(context, post)
    assert (got.error_class, got.tls_fault) == (ErrorClass.TLS, TlsFault.TOO_WEAK)


def test_each_fault_has_a_sentence_and_a_line_in_the_documents() -> None:
    runbook = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text()
    for fault in TlsFault:
        assert describe_tls_fault(fault), fault
        assert f"`{fault}`" in runbook


def _posted_to(context: ssl.SSLContext, post: Post) -> PostResult:
    """What comes of a POST to a server of this context, which keeps the end of a connection back."""

    def refuse(accepted: socket.socket) -> None:
        served = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            served.do_handshake()
        with socket.socket(fileno=served.detach()) as plain, suppress(OSError):
            plain.settimeout(PATIENCE_SECONDS)
            _keep_end_back(plain)

    with _serving(refuse) as url:
        return post(url)


@contextmanager
def _serving(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The https URL of a port where `serve` has the first connection, and must end without an error."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE_SECONDS)

        def accept() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(PATIENCE_SECONDS)
                serve(accepted)

        served = pool.submit(accept)
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        served.result(PATIENCE_SECONDS)


def _keep_end_back(accepted: socket.socket) -> None:
    """Read to the end. A reset would overtake what was sent, as it may on the way from a real receiver."""
    accepted.shutdown(socket.SHUT_WR)
    while accepted.recv(4096):
        pass


@pytest.mark.parametrize(
    ("status", "location", "kept"),
    [
        (301, "https://example.com/new", "https://example.com/new"),
        (302, "/x" * 1000, "/x" * 512),
        (503, "/", ""),
    ],
)
def test_a_redirect_says_where_it_would_lead(post: Post, status: int, location: str, kept: str) -> None:
    with Receiver(answer(status, {"location": location})) as receiver:
        assert post(receiver.url()).location == kept


def test_the_name_in_the_url_counts_and_not_the_address(post: Post, certificates: Certificates) -> None:
    """The certificate is for 127.0.0.1; localhost leads there too."""
    with Receiver(certificate=certificates.files(Tls.GOOD)) as receiver:
        assert post(receiver.url(host="localhost")).error_class is ErrorClass.TLS
        assert post(receiver.url()).is_success


# Addresses


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name leads to these; the port stays."""

    def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def saw_nothing(receiver: Receiver) -> bool:
    """Nobody connected before this: connections are accepted in the order they were opened."""
    before = receiver.connections
    with socket.create_connection(("127.0.0.1", receiver.port)):
        assert receiver.wait_for(lambda: receiver.connections > before, PATIENCE_SECONDS)
        return receiver.connections == before + 1 == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "0.0.0.0",  # noqa: S104
    ],
)
def test_a_forbidden_address_is_refused_before_a_connection_is_opened(host: str) -> None:
    sender = Sender(loopback_allowed=False)
    with Receiver() as receiver:
        url = f"https://{host}:{receiver.port}/"
        got = sender.post(WebhookRequest(url, {}, BODY), timeouts=within(PATIENCE_SECONDS))
        assert (got.status_code, got.error_class) == (None, ErrorClass.FORBIDDEN_ADDRESS)
        assert saw_nothing(receiver)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("8.8.8.8", "127.0.0.1"),
        ("127.0.0.1", "8.8.8.8"),
        ("2606:4700:4700::1111", "8.8.8.8", "1.1.1.1", "9.9.9.9", "8.8.4.4", "127.0.0.1"),
        ("::ffff:127.0.0.1",),
        ("169.254.169.254",),
        ("fe80::1%eth0",),
        ("64:ff9b::7f00:1",),
    ],
)
def test_a_name_with_one_forbidden_address_is_refused_whole(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    sender = Sender(loopback_allowed=False)
    with Receiver() as receiver:
        resolve_to(monkeypatch, *addresses)
        url = f"https://rebinding.example:{receiver.port}/"
        got = sender.post(WebhookRequest(url, {}, BODY), timeouts=within(PATIENCE_SECONDS))
        assert got.error_class is ErrorClass.FORBIDDEN_ADDRESS
        monkeypatch.undo()
        assert saw_nothing(receiver)


def test_the_addresses_of_a_name_are_tried_in_turn(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on the first ones."""
    with Receiver() as receiver:
        resolve_to(monkeypatch, "127.0.0.2", "::1", "127.0.0.3", "127.0.0.1")
        assert post(f"http://several.example:{receiver.port}/").is_success
        assert receiver.requests[0].headers["host"] == f"several.example:{receiver.port}"


def test_addresses_beyond_the_fourth_are_left_out(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver:
        resolve_to(monkeypatch, *(f"127.0.0.{index}" for index in (2, 3, 4, 5, 1)))
        assert post(f"http://many.example:{receiver.port}/").error_class is ErrorClass.CONNECT
        monkeypatch.undo()
        assert saw_nothing(receiver)


@contextlib.contextmanager
def black_hole(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that accepts no connection attempt: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_connection_that_is_not_answered_is_cut(post: Post) -> None:
    with black_hole() as port:
        got = post(f"http://127.0.0.1:{port}/", deadline_seconds=DEADLINE_SECONDS)
    assert got.error_class is TIMEOUT
    assert got.latency_ms < (DEADLINE_SECONDS + SLACK_SECONDS) * 1000


def test_a_dead_address_leaves_time_for_the_next(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole("127.0.0.2") as port, Receiver(port=port) as receiver:
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        # Half of the time goes to the dead one.
        assert post(f"http://several.example:{port}/", deadline_seconds=4).is_success
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_that_leads_nowhere_is_a_dns_error(
    post: Post, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    got = post("https://nowhere.example/")
    assert (got.status_code, got.error_class) == (None, ErrorClass.DNS)


def test_a_name_server_that_does_not_answer_is_cut(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    got = post("https://slow.example/", deadline_seconds=DEADLINE_SECONDS)
    answered.set()
    assert got.error_class is TIMEOUT
    assert got.latency_ms < (DEADLINE_SECONDS + SLACK_SECONDS) * 1000


def test_no_name_waits_for_the_lookup_of_another(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **more: Any) -> Any:
        if host == "slow.example":
            answered.wait(60)
        return look_up("localhost", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Receiver(answer(keep_alive=False)) as receiver:
        assert post(receiver.url(host="localhost")).is_success
        for _ in range(3):
            got = post(f"http://slow.example:{receiver.port}/", deadline_seconds=DEADLINE_SECONDS)
            assert got.error_class is TIMEOUT
            assert post(receiver.url(host="localhost")).is_success
        answered.set()


def test_a_thread_that_looked_a_name_up_looks_up_the_next(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_free_threads", [])
    started: list[str] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        if thread.name == "dns":
            started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    with Receiver(answer(keep_alive=False)) as receiver:
        for _ in range(5):
            assert post(receiver.url(host="localhost")).is_success
            assert post(receiver.url()).is_success
        assert receiver.connections == 10
    assert len(started) <= 1, "none, if one of another test is free"


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://", "https://example.com:x/", "https://a..b/", "nonsense"]
)
def test_no_url_makes_it_raise(post: Post, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """They are refused when a webhook is registered; should one slip through, a batch must not die of it."""
    resolve_to(monkeypatch)
    got = post(url)
    assert got.status_code is None
    assert got.error_class is not None


# Isolation


def test_receivers_that_hang_do_not_delay_the_others(post: Post) -> None:
    """25 calls hang, of every kind; 25 threads make 20 calls each meanwhile, and all of them end first."""
    hanging = [
        fake.hang(),
        fake.trickle_header(),
    ]
    with (
        Receiver(lambda request: hanging[int(request.path[1:]) % len(hanging)]) as slow,
        Receiver() as fast,
        ThreadPoolExecutor(50) as pool,
    ):
        held = [pool.submit(post, slow.url(f"/{index}"), deadline_seconds=60) for index in range(25)]
        assert slow.wait_for_requests(25)
        answers = pool.map(
            lambda _: [post(fast.url(), deadline_seconds=PATIENCE_SECONDS) for _ in range(20)], range(25)
        )
        assert all(each.is_success for twenty in answers for each in twenty)
        assert not any(call.done() for call in held)
        slow.close()
        assert {call.result().error_class for call in held} <= {LOST, None}


def test_each_of_many_calls_ends_in_its_own_time(post: Post) -> None:
    with Receiver(fake.hang()) as receiver, ThreadPoolExecutor(50) as pool:
        seconds = [0.1 + 0.01 * index for index in range(50)]
        answers = list(pool.map(lambda each: post(receiver.url(), deadline_seconds=each), seconds))
        for limit_seconds, got in zip(seconds, answers, strict=True):
            assert got.error_class is TIMEOUT
            assert limit_seconds * 1000 - 1 <= got.latency_ms < (limit_seconds + SLACK_SECONDS) * 1000


def test_an_answer_has_its_own_time_however_long_the_connection_might_have_taken(
    sender: Sender, receive: Receive
) -> None:
    """The drainer's timeouts: a receiver that accepts at once and then says nothing is cut by the response's
    time, not by what the connection left over."""
    receiver = receive(fake.hang())
    started = time.monotonic()
    got = sender.post(
        WebhookRequest(receiver.url(), {}, BODY),
        timeouts=Timeouts(connect_seconds=60, response_seconds=DEADLINE_SECONDS, total_seconds=60),
    )
    assert got.error_class is TIMEOUT
    assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS


def test_an_answer_may_take_longer_than_a_connection(sender: Sender, receive: Receive) -> None:
    """Connected in time, and the response comes after the time for connecting is over."""
    receiver = receive(answer(200, delay_seconds=2.1))
    got = sender.post(
        WebhookRequest(receiver.url(), {}, BODY),
        timeouts=Timeouts(connect_seconds=2, response_seconds=PATIENCE_SECONDS, total_seconds=60),
    )
    assert got.is_success


def test_all_of_it_together_has_a_limit_too(sender: Sender, receive: Receive) -> None:
    """The dispatcher's timeouts: what connecting took is not given to the response again."""
    receiver = receive(fake.trickle_header())
    started = time.monotonic()
    got = sender.post(
        WebhookRequest(receiver.url(), {}, BODY),
        timeouts=Timeouts(
            connect_seconds=DEADLINE_SECONDS, response_seconds=60, total_seconds=DEADLINE_SECONDS
        ),
    )
    assert got.error_class is TIMEOUT
    assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("behaviour", [fake.hang_in_body(), fake.trickle_body()], ids=lambda each: each.name)
def test_who_dawdles_over_the_body_of_a_success_holds_up_nobody(
    sender: Sender, receive: Receive, behaviour: Behaviour
) -> None:
    """The header acknowledged: the rest is read for a moment, so that the connection can be used again."""
    receiver = receive(behaviour)
    started = time.monotonic()
    got = sender.post(WebhookRequest(receiver.url(), {}, BODY), timeouts=within(PATIENCE_SECONDS))
    assert got.is_success
    assert time.monotonic() - started < BODY_READ_SECONDS + SLACK_SECONDS

"""The transport adapter, mounted on a session of requests as anyone would mount it."""

import gzip
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from lms_webhooks.sending import connections
from lms_webhooks.sending.adapter import AdapterResponse, Timeouts, WebhookAdapter
from tests.conformance import behaviours as does
from tests.conformance.behaviours import answer
from tests.conformance.certificates import Certificates, Tls
from tests.fakes.receiver import Behaviour, Receiver
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def session(certificates: Certificates) -> Iterator[requests.Session]:
    adapter = WebhookAdapter(loopback_allowed=True, trusted_ca_file=str(certificates.ca_file))
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        yield session


def test_it_returns_a_response_of_requests(session: requests.Session) -> None:
    body = '{"grüße": [1]}'.encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "X-Two": "2"}
    with Receiver(answer(201, headers, body)) as receiver:
        response = session.post(receiver.url("/hooks?a=b"), json={"x": 1}, timeout=PATIENCE_SECONDS)
        assert isinstance(response, requests.Response)
        assert response.ok
        assert (response.status_code, response.reason) == (201, "Scripted")
        assert response.json() == {"grüße": [1]}
        assert response.text == '{"grüße": [1]}'
        assert response.content == body
        assert response.encoding == "utf-8"
        assert response.headers["x-TWO"] == response.headers["X-Two"] == "2"
        assert isinstance(response.headers, CaseInsensitiveDict)
        assert response.url == receiver.url("/hooks?a=b")
        assert response.request.method == "POST"
        assert (response.history, response.is_redirect, dict(response.cookies)) == ([], False, {})
        assert response.elapsed.total_seconds() > 0
        response.raise_for_status()
        response.close()
        (request,) = receiver.requests
        assert (request.method, request.path, request.body) == ("POST", "/hooks?a=b", b'{"x": 1}')
        assert request.headers["content-type"] == "application/json"
        assert request.headers["content-length"] == "8"
        assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_a_failure_raises_when_asked_to(session: requests.Session) -> None:
    with Receiver(answer(503, body=b"later")) as receiver:
        response = session.post(receiver.url(), timeout=PATIENCE_SECONDS)
        assert not response.ok
        with pytest.raises(requests.HTTPError, match="503 Server Error: Scripted"):
            response.raise_for_status()


def test_it_has_every_attribute_that_requests_gives_a_response(session: requests.Session) -> None:
    with Receiver() as receiver:
        ours = session.get(receiver.url(), timeout=PATIENCE_SECONDS)
        session.mount("http://", HTTPAdapter())
        theirs = session.get(receiver.url(), timeout=PATIENCE_SECONDS)
    missing = {name for name in dir(theirs) if not hasattr(ours, name)}
    assert missing == set()
    assert vars(theirs).keys() <= vars(ours).keys() | set(dir(AdapterResponse))


def test_the_connection_is_kept(session: requests.Session) -> None:
    with Receiver(answer(200, body=b"x" * 1000)) as receiver:
        for _ in range(5):
            assert session.post(receiver.url(), data=b"x", timeout=PATIENCE_SECONDS).content == b"x" * 1000
        assert receiver.connections == 1


def test_it_speaks_tls(session: requests.Session, certificates: Certificates) -> None:
    with Receiver(certificate=certificates.files(Tls.GOOD)) as receiver:
        assert session.post(receiver.url(), data="x", timeout=PATIENCE_SECONDS).ok
        with pytest.raises(requests.exceptions.SSLError):
            session.post(receiver.url(host="localhost"), data="x", timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("grüße", "grüße".encode()),
        (b"bytes", b"bytes"),
        ({"form": "1"}, b"form=1"),
        (io.BytesIO(b"a file"), b"a file"),
        (iter([b"two ", b"pieces"]), b"two pieces"),
        (None, b""),
    ],
    ids=["text", "bytes", "form", "file", "pieces", "none"],
)
def test_bodies_of_every_kind_are_sent(session: requests.Session, body: object, sent: bytes) -> None:
    with Receiver() as receiver:
        assert session.post(receiver.url(), data=body, timeout=PATIENCE_SECONDS).ok  # type: ignore[arg-type]
        (request,) = receiver.requests
        assert request.body == sent
        assert "transfer-encoding" not in request.headers


def test_a_body_is_streamed_and_decompressed(session: requests.Session) -> None:
    body = bytes(range(256)) * 1000
    with Receiver(answer(200, {"content-encoding": "gzip"}, gzip.compress(body))) as receiver:
        with session.get(receiver.url(), stream=True, timeout=PATIENCE_SECONDS) as response:
            pieces = list(response.iter_content(1000))
        assert b"".join(pieces) == body
        assert len(pieces) > 100
        assert session.get(receiver.url(), timeout=PATIENCE_SECONDS).content == body


def test_a_body_in_chunks_is_read(session: requests.Session) -> None:
    sent = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    with Receiver(does.raw(sent, keep_alive=True)) as receiver:
        assert session.get(receiver.url(), timeout=PATIENCE_SECONDS).text == "hello world"
        assert list(session.get(receiver.url(), stream=True, timeout=PATIENCE_SECONDS).iter_lines()) == [
            b"hello world"
        ]
        assert receiver.connections == 1


@pytest.mark.parametrize(
    "head", [b"content-length: 100", b"transfer-encoding: chunked", b"content-length: many"]
)
def test_a_body_that_breaks_off_is_no_content(session: requests.Session, head: bytes) -> None:
    with (
        Receiver(does.raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n5\r\nhel")) as receiver,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        session.get(receiver.url(), timeout=PATIENCE_SECONDS)


def test_a_body_that_only_the_time_out_ends_is_no_content(session: requests.Session) -> None:
    """Its length is not announced, so its end would look like any other."""
    with (
        Receiver(does.raw(b"HTTP/1.1 200 OK\r\n\r\nhel", keep_alive=True)) as receiver,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        session.get(receiver.url(), timeout=0.3)


def test_two_lengths_are_no_other_error(session: requests.Session) -> None:
    lengths = b"content-length: 5\r\ncontent-length: 6\r\n\r\n"
    with (
        Receiver(does.raw(b"HTTP/1.1 200 OK\r\n" + lengths + b"hello")) as receiver,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        session.get(receiver.url(), timeout=PATIENCE_SECONDS)


def test_a_raw_body_is_as_it_came_unless_asked(session: requests.Session) -> None:
    compressed = gzip.compress(b"hello")
    with Receiver(answer(200, {"content-encoding": "gzip"}, compressed)) as receiver:
        assert session.get(receiver.url(), stream=True, timeout=PATIENCE_SECONDS).raw.read() == compressed
        assert (
            session.get(receiver.url(), stream=True, timeout=PATIENCE_SECONDS).raw.read(decode_content=True)
            == b"hello"
        )


def test_a_response_that_is_closed_early_is_not_read_further(session: requests.Session) -> None:
    with Receiver(does.endless_body()) as receiver:
        response = session.get(receiver.url(), stream=True, timeout=PATIENCE_SECONDS)
        assert next(response.iter_content(10))
        response.close()
        assert receiver.wait_for(lambda: receiver.open_connections == 0, PATIENCE_SECONDS)


def test_an_early_response_in_two_records_of_tls_is_seen_at_once(
    session: requests.Session, certificates: Certificates
) -> None:
    """Both come in one piece, after which no socket tells of the second. And the server reads no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.files(Tls.GOOD))
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    is_over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for step in (tls.do_handshake, lambda: tls.read(1)):
                while True:
                    with suppress(ssl.SSLWantReadError):
                        step()
                        break
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))
            tls.write(b"HTTP/1.1 413 Too Large\r\n")
            tls.write(b"content-length: 0\r\n\r\n")
            connection.sendall(outgoing.read())
            is_over.wait(PATIENCE_SECONDS)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            assert (
                session.post(url, data=bytes(32 * 1024 * 1024), timeout=PATIENCE_SECONDS).status_code == 413
            )
        finally:
            is_over.set()
            thread.join()


def test_the_response_to_head_has_no_body(session: requests.Session) -> None:
    with Receiver(does.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", keep_alive=True)) as receiver:
        response = session.head(receiver.url(), timeout=PATIENCE_SECONDS)
        assert (response.status_code, response.headers["content-length"]) == (200, "100")
        assert response.content == b""
        assert session.head(receiver.url(), stream=True, timeout=PATIENCE_SECONDS).raw.read(10) == b""


def test_a_redirect_is_followed_by_the_session_and_held_to_the_rules(session: requests.Session) -> None:
    with Receiver(
        lambda request: {
            "/": does.redirect("/there"),
            "/out": does.redirect("http://10.0.0.1/"),
        }.get(request.path, answer(200, body=b"there"))
    ) as receiver:
        response = session.get(receiver.url(), timeout=PATIENCE_SECONDS)
        assert (response.text, len(response.history)) == ("there", 1)
        assert session.get(receiver.url(), allow_redirects=False, timeout=PATIENCE_SECONDS).status_code == 302
        with pytest.raises(requests.exceptions.InvalidURL, match="must be a public address"):
            session.get(receiver.url("/out"), timeout=PATIENCE_SECONDS)


def test_a_redirect_sends_a_file_again(session: requests.Session) -> None:
    with Receiver(
        lambda request: answer(307, {"location": "/there"}) if request.path == "/" else answer()
    ) as receiver:
        response = session.post(receiver.url(), data=io.BytesIO(b"a file"), timeout=PATIENCE_SECONDS)
        assert response.ok
        assert [request.body for request in receiver.requests] == [b"a file", b"a file"]


def test_a_target_that_is_not_allowed_is_refused() -> None:
    session = requests.Session()
    session.mount("https://", WebhookAdapter())
    for url in ("https://10.0.0.1/", "https://localhost/", "https://example.com:22/"):
        with pytest.raises(requests.exceptions.InvalidURL, match=r"The target must .+\."):
            session.post(url, timeout=PATIENCE_SECONDS)


# Time-outs


@pytest.mark.parametrize(
    "timeout",
    [
        0.2,
        (5, 0.2),
        urllib3.Timeout(connect=5, read=0.2),
        urllib3.Timeout(total=0.2),
        Timeouts(connect_seconds=PATIENCE_SECONDS, response_seconds=0.2, total_seconds=PATIENCE_SECONDS),
        Timeouts(connect_seconds=PATIENCE_SECONDS, response_seconds=PATIENCE_SECONDS, total_seconds=0.2),
    ],
    ids=str,
)
@pytest.mark.parametrize("behaviour", [does.hang(), does.trickle_header()], ids=lambda each: each.name)
def test_a_time_out_of_any_kind_ends_a_request(
    session: requests.Session, timeout: object, behaviour: Behaviour
) -> None:
    with Receiver(behaviour) as receiver, pytest.raises(requests.Timeout):
        session.post(receiver.url(), timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, (None, None), (5, None), 5, 5.0, 1e9, float("inf")])
def test_a_time_out_that_is_long_or_none_lets_it_be(session: requests.Session, timeout: object) -> None:
    with Receiver(answer(delay_seconds=0.1)) as receiver:
        assert session.post(receiver.url(), timeout=timeout).ok  # type: ignore[arg-type]


# What goes wrong


@pytest.mark.parametrize(
    "behaviour",
    [does.close_before_answer(), does.garbage(), does.truncated_header()],
    ids=lambda each: each.name,
)
def test_no_response_is_a_connection_error(session: requests.Session, behaviour: Behaviour) -> None:
    with Receiver(behaviour) as receiver, pytest.raises(requests.ConnectionError) as raised:
        session.post(receiver.url(), timeout=PATIENCE_SECONDS)
    assert raised.value.request is not None
    assert raised.value.request.url == receiver.url()


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"x\r\ny": "z"}, "name"),
        ({"x y": "z"}, "name"),
        ({"": "z"}, "name"),
        ({"x": "y\r\nz: 1"}, "value"),
        ({"x": "y\nz"}, "value"),
        ({"x": "y\0z"}, "value"),
        ({"x": "y\x7fz"}, "value"),
        ({"x": "☃"}, "value"),
    ],
)
def test_a_header_is_checked_once_more(session: requests.Session, headers: dict[str, str], what: str) -> None:
    """Requests checks some of it, but not in a prepared request that was made by hand."""
    with Receiver() as receiver:
        request = requests.Request("POST", receiver.url()).prepare()
        request.headers = CaseInsensitiveDict({"a": "b", **headers})
        with pytest.raises(requests.exceptions.InvalidHeader, match=what):
            session.get_adapter(receiver.url()).send(request, timeout=PATIENCE_SECONDS)
        assert receiver.requests == []


def test_headers_that_would_say_where_the_request_ends_are_not_sent(session: requests.Session) -> None:
    headers = {
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        "Host": "x",
        "Te": "y",
    }
    with Receiver() as receiver:
        request = requests.Request("POST", receiver.url(), data=b"body").prepare()
        request.headers.update(headers)
        assert session.get_adapter(receiver.url()).send(request, timeout=PATIENCE_SECONDS).content == b""
        (got,) = receiver.requests
        assert (got.headers["content-length"], got.body) == ("4", b"body")
        assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert got.headers.keys().isdisjoint({"transfer-encoding", "connection"})


def test_what_it_does_not_support_is_refused(session: requests.Session) -> None:
    with Receiver() as receiver:
        for options in ({"verify": False}, {"cert": "client.pem"}):
            with pytest.raises(ValueError, match="verifies every server"):
                session.post(receiver.url(), timeout=PATIENCE_SECONDS, **options)
        with pytest.raises(ValueError, match="when it is made"):
            session.post(receiver.url(), timeout=PATIENCE_SECONDS, verify="other.pem")
        with pytest.raises(ValueError, match="a pair"):
            session.post(receiver.url(), timeout=(1, 2, 3))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="the method"):
            session.request("GET / HTTP/1.1\r\nx: y\r\nz:", receiver.url(), timeout=PATIENCE_SECONDS)
        with pytest.raises(requests.exceptions.InvalidProxyURL):
            session.post(receiver.url(), timeout=PATIENCE_SECONDS, proxies={"http": "http://127.0.0.1:1"})
        assert receiver.requests == []


# The pool


def test_an_origin_without_connections_leaves_the_pool(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = session.get_adapter("http://x").connections  # type: ignore[attr-defined]
    with Receiver(answer(keep_alive=False)) as receiver:
        session.post(receiver.url(), timeout=PATIENCE_SECONDS)
        assert pool._idle == {}
    monkeypatch.setattr(connections, "_MAX_IDLE", 1)
    with Receiver() as first, Receiver() as second:
        session.post(first.url(), timeout=PATIENCE_SECONDS)
        session.post(second.url(), timeout=PATIENCE_SECONDS)
        assert [origin.port for origin in pool._idle] == [second.port]
        taken = pool._take_idle(next(iter(pool._idle)))
        assert pool._idle == {}
        taken.close()


def test_threads_share_it(session: requests.Session) -> None:
    with Receiver() as receiver:
        results: list[bool] = []
        calls: list[Callable[[], None]] = [
            lambda: results.append(session.post(receiver.url(), timeout=PATIENCE_SECONDS).ok)
        ] * 8
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 8

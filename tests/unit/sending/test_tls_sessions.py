"""TLS sessions are used again where that is safe: by their own origin, and while they are young."""

import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socket import SHUT_WR, create_server, socket, socketpair

import pytest
import trustme

from lms_webhooks.clocks import Clocks
from lms_webhooks.model.attempts import ErrorClass, TlsFault
from lms_webhooks.sending import tls_sessions
from lms_webhooks.sending.connections import ConnectionPool
from lms_webhooks.sending.sockets import Deadline, DeadlineSocket, Origin, TlsSocket, TransportError, connect
from lms_webhooks.sending.tls_sessions import MAX_AGE_SECONDS, TlsSessions
from tests.conformance.certificates import Certificates, Tls
from tests.patience import PATIENCE_SECONDS

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
CLOSES = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
NOTHING = b""
KEEPS = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@dataclass
class Server:
    """What it saw: of each connection whose handshake succeeded, whether it was resumed."""

    context: ssl.SSLContext
    response: bytes = CLOSES
    port: int = 0
    resumed: list[bool] = field(default_factory=list)
    after_response: Callable[[ssl.SSLSocket], None] = lambda _: None

    def origin(self, host: str = "127.0.0.1") -> Origin:
        return Origin("https", host, self.port)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """`server` on a port, one thread for each connection."""
    listener = create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]

    def serve(accepted: socket) -> None:
        with suppress(OSError), accepted, server.context.wrap_socket(accepted, server_side=True) as served:
            served.settimeout(PATIENCE_SECONDS)
            received = served.recv(4096)
            server.resumed.append(bool(served.session_reused))
            while received:
                response, after_response = server.response, server.after_response
                served.sendall(response)
                if response in {CLOSES, NOTHING}:
                    return
                after_response(served)
                received = served.recv(4096)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listener.close()


NOW = {"wall": 1000.0, "monotonic": 1000.0}


@pytest.fixture
def clocks() -> Clocks:
    NOW.update(wall=1000.0, monotonic=1000.0)
    return Clocks(wall=lambda: NOW["wall"], monotonic=lambda: NOW["monotonic"])


@pytest.fixture
def pool(certificates: Certificates, clocks: Clocks) -> Iterator[ConnectionPool]:
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    pool = ConnectionPool(context, loopback_allowed=True, clocks=clocks)
    yield pool
    pool.close()


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Server]:
    with serving(Server(certificates.context(Tls.GOOD))) as server:
        yield server


def post(pool: ConnectionPool, origin: Origin) -> int:
    response = pool.request(
        origin,
        REQUEST,
        Deadline(PATIENCE_SECONDS),
        connect_seconds=PATIENCE_SECONDS,
        response_seconds=PATIENCE_SECONDS,
    )
    while response.read(1000):
        pass
    response.close()
    return response.status_code


def fails(pool: ConnectionPool, origin: Origin) -> TransportError:
    with pytest.raises(TransportError) as failed:
        post(pool, origin)
    return failed.value


@pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)
def test_a_new_connection_to_the_same_origin_is_resumed(
    pool: ConnectionPool, server: Server, version: ssl.TLSVersion
) -> None:
    server.context.minimum_version = server.context.maximum_version = version
    for _ in range(4):
        assert post(pool, server.origin()) == 200
    assert server.resumed == [False, True, True, True]


def test_a_server_without_tickets_gets_full_handshakes(pool: ConnectionPool, server: Server) -> None:
    server.context.num_tickets = 0
    server.context.options |= ssl.OP_NO_TICKET
    for _ in range(2):
        assert post(pool, server.origin()) == 200
    assert server.resumed == [False, False]


def test_a_session_is_taken_once_in_its_time_and_only_after_a_full_handshake(
    pool: ConnectionPool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take one costs what a resumed handshake saves."""
    taken: list[bool] = []
    take = TlsSocket.session

    def take_and_note(tls: TlsSocket) -> ssl.SSLSession | None:
        taken.append(tls.is_resumed)
        return take(tls)

    monkeypatch.setattr(TlsSocket, "session", take_and_note)
    for _ in range(4):
        assert post(pool, server.origin()) == 200
    assert taken == [False]
    server.context.options |= ssl.OP_NO_TICKET
    server.context.num_tickets = 0
    NOW["wall"] += MAX_AGE_SECONDS
    for _ in range(4):
        assert post(pool, server.origin()) == 200
    assert taken == [False, False]


def test_connections_that_open_at_the_same_time_use_one_session(pool: ConnectionPool, server: Server) -> None:
    assert post(pool, server.origin()) == 200
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: post(pool, server.origin()), range(16))) == [200] * 16
    assert server.resumed == [False] + [True] * 16


# The name


def test_openssl_resumes_with_a_name_that_the_certificate_is_not_for(
    certificates: Certificates, server: Server
) -> None:
    """Why sessions are kept by origin. Should this fail one day, OpenSSL looks at the name itself."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    first = connect(server.origin(), Deadline(PATIENCE_SECONDS), context, loopback_allowed=True)
    assert isinstance(first, TlsSocket)
    first.send(REQUEST, Deadline(PATIENCE_SECONDS))
    assert first.receive(Deadline(PATIENCE_SECONDS)) == CLOSES
    other = connect(
        server.origin("localhost"),
        Deadline(PATIENCE_SECONDS),
        context,
        loopback_allowed=True,
        session=first.session(),
    )
    assert isinstance(other, TlsSocket)
    assert other.is_resumed
    first.close()
    other.close()


@pytest.mark.parametrize("response", [CLOSES, KEEPS], ids=["closes", "keeps"])
def test_a_session_of_one_name_is_never_offered_to_another(
    pool: ConnectionPool, server: Server, response: bytes
) -> None:
    server.response = response
    for _ in range(3):
        assert post(pool, server.origin()) == 200
        failure = fails(pool, server.origin("localhost"))
        assert (failure.error_class, failure.tls_fault) == (ErrorClass.TLS, TlsFault.WRONG_NAME)


def test_nor_to_another_port(pool: ConnectionPool, server: Server, certificates: Certificates) -> None:
    other = Server(certificates.context(Tls.GOOD))
    other.context = server.context  # so that its tickets would be taken
    with serving(other):
        assert post(pool, server.origin()) == 200
        assert post(pool, other.origin()) == 200
    assert (server.resumed, other.resumed) == ([False], [False])


# The age


@pytest.mark.parametrize(("seconds", "is_resumed"), [(MAX_AGE_SECONDS - 1, True), (MAX_AGE_SECONDS, False)])
@pytest.mark.parametrize("clock", ["wall", "monotonic"])
def test_an_old_session_is_not_used(
    pool: ConnectionPool, server: Server, clock: str, seconds: float, is_resumed: bool
) -> None:
    assert post(pool, server.origin()) == 200
    NOW[clock] += seconds
    assert post(pool, server.origin()) == 200
    assert server.resumed == [False, is_resumed]


def test_the_age_counts_from_the_handshake_that_verified_a_certificate(
    pool: ConnectionPool, server: Server
) -> None:
    """Else one certificate, once it was good, would be good for as long as there are connections."""
    for _ in range(5):
        assert post(pool, server.origin()) == 200
        NOW["wall"] += MAX_AGE_SECONDS * 0.4
    assert server.resumed == [False, True, True, False, True]


def test_a_certificate_that_is_no_longer_trusted_is_refused_when_the_session_is_old(
    pool: ConnectionPool, server: Server
) -> None:
    assert post(pool, server.origin()) == 200
    stranger = trustme.CA()
    stranger.issue_cert("127.0.0.1").configure_cert(server.context)
    NOW["wall"] += MAX_AGE_SECONDS + 1
    assert fails(pool, server.origin()).error_class is ErrorClass.TLS


# What goes wrong


def test_a_server_that_does_not_know_the_session_gets_full_handshakes_from_then_on(
    pool: ConnectionPool, server: Server, certificates: Certificates
) -> None:
    """As after a failover: it has other keys. Where several take turns, to try again would cost more."""
    assert post(pool, server.origin()) == 200
    server.context = certificates.context(Tls.GOOD)
    for _ in range(3):
        assert post(pool, server.origin()) == 200
    NOW["wall"] += MAX_AGE_SECONDS
    for _ in range(2):
        assert post(pool, server.origin()) == 200
    assert server.resumed == [False, False, False, False, False, True]


def test_a_server_that_cannot_resume_gets_a_full_handshake_at_once(
    pool: ConnectionPool, server: Server
) -> None:
    """Its alert says nothing of the endpoint: without the session, which is our idea, it works."""
    assert post(pool, server.origin()) == 200
    handshakes = 0

    def refuse(*_: object) -> int | None:
        nonlocal handshakes
        handshakes += 1
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if handshakes == 1 else None

    server.context.sni_callback = refuse
    assert post(pool, server.origin()) == 200
    assert post(pool, server.origin()) == 200
    assert server.resumed == [False, False, False]


def test_a_full_handshake_that_fails_is_not_tried_again(pool: ConnectionPool, server: Server) -> None:
    handshakes = 0

    def refuse(*_: object) -> int:
        nonlocal handshakes
        handshakes += 1
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    server.context.sni_callback = refuse
    assert fails(pool, server.origin()).error_class is ErrorClass.TLS
    assert handshakes == 1


@pytest.mark.parametrize("response", [NOTHING, b"garbage\r\n\r\n"], ids=["none", "garbage"])
def test_a_resumed_connection_without_a_response_is_the_last_resumed_one(
    pool: ConnectionPool, server: Server, response: bytes
) -> None:
    """A server whose resumption is damaged must not fail each event for minutes."""
    assert post(pool, server.origin()) == 200
    server.response, usual = response, server.response
    assert fails(pool, server.origin()).error_class in {
        ErrorClass.CONNECTION_LOST,
        ErrorClass.INVALID_RESPONSE,
    }
    server.response = usual
    assert post(pool, server.origin()) == 200
    assert server.resumed == [False, True, False]


@pytest.mark.parametrize("response", [KEEPS[:20], KEEPS[:-5] + b"9\r\n\r\n"], ids=["header", "body"])
def test_after_a_tls_error_on_a_kept_connection_none_is_resumed(
    pool: ConnectionPool, server: Server, response: bytes
) -> None:
    server.response = KEEPS
    assert post(pool, server.origin()) == 200

    def damage(served: ssl.SSLSocket) -> None:
        socket.sendall(served, bytes.fromhex("1703030020") + bytes(32))

    server.response, server.after_response = response, damage
    with suppress(TransportError):
        post(pool, server.origin())
    server.response = CLOSES
    assert post(pool, server.origin()) == 200
    assert server.resumed == [False, False]


def test_only_after_a_response_is_a_session_kept(pool: ConnectionPool, server: Server) -> None:
    server.response = b"garbage\r\n\r\n"
    assert fails(pool, server.origin()).error_class is ErrorClass.INVALID_RESPONSE
    assert pool._tls_sessions.find(server.origin()) is None


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch, clocks: Clocks) -> None:
    monkeypatch.setattr(tls_sessions, "_MAX_ORIGINS", 3)
    sessions = TlsSessions(clocks)
    origins = [Origin("https", name, 443) for name in "abcd"]
    a, b, c, d = origins
    for origin in (a, b, c, a, d):
        sessions.keep(origin, None, clocks.now())
    assert [sessions.wants(origin) for origin in origins] == [False, True, False, False]


# Idle connections


@dataclass
class HeldTickets:
    """A client whose handshake is over, and a server that holds its tickets back."""

    client: TlsSocket
    server: ssl.SSLObject
    outgoing: ssl.MemoryBIO
    theirs: socket
    tickets: bytes

    def say(self, text: bytes) -> None:
        self.server.write(text)
        self.theirs.sendall(self.outgoing.read())


@pytest.fixture
def held(certificates: Certificates) -> Iterator[HeldTickets]:
    ours, theirs = socketpair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context(Tls.GOOD).wrap_bio(incoming, outgoing, server_side=True)
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    with ours, theirs, ThreadPoolExecutor(1) as executor:
        theirs.settimeout(PATIENCE_SECONDS)
        connecting = executor.submit(
            TlsSocket, DeadlineSocket(ours), context, "127.0.0.1", Deadline(PATIENCE_SECONDS)
        )
        while True:
            try:
                server.do_handshake()
                break
            except ssl.SSLWantReadError:
                theirs.sendall(outgoing.read())
                incoming.write(theirs.recv(65536))
        yield HeldTickets(connecting.result(PATIENCE_SECONDS), server, outgoing, theirs, outgoing.read())


def test_a_ticket_that_arrives_on_an_idle_connection_does_not_end_it(held: HeldTickets) -> None:
    assert held.client.has_no_input()
    assert held.client.session() is None
    held.theirs.sendall(held.tickets)
    assert held.client.has_no_input()
    assert held.client.session() is not None
    held.say(b"hello")
    assert held.client.receive(Deadline(PATIENCE_SECONDS)) == b"hello"


def test_half_a_ticket_does(held: HeldTickets) -> None:
    """Behind its other half there may be anything."""
    held.theirs.sendall(held.tickets[:-1])
    assert not held.client.has_no_input()


@pytest.mark.parametrize("text", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x"])
def test_a_ticket_with_data_behind_it_does(held: HeldTickets, text: bytes) -> None:
    held.server.write(text)
    held.theirs.sendall(held.tickets + held.outgoing.read())
    assert not held.client.has_no_input()


def test_an_end_does(held: HeldTickets) -> None:
    held.theirs.sendall(held.tickets)
    held.theirs.shutdown(SHUT_WR)
    assert not held.client.has_no_input()


def test_damaged_bytes_do(held: HeldTickets) -> None:
    held.theirs.sendall(bytes.fromhex("1703030003") + b"bad")
    assert not held.client.has_no_input()

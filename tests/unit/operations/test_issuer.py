"""An issuer is held to what API Gateway asks of it, over real TLS."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from operations.issuer import IssuerFault, check_discovery

DISCOVERY = "/.well-known/openid-configuration"
RSA = {"kty": "RSA", "alg": "RS256", "n": "AQAB", "e": "AQAB"}
EC = {"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}


class Provider:
    """What a provider publishes, by path: documents, or the text in the place of one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.documents: dict[str, Any] = {
            DISCOVERY: {"issuer": url, "jwks_uri": f"{url}/keys"},
            "/keys": {"keys": [EC, RSA]},
        }


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = made.documents.get(self.path)
            text = document if isinstance(document, str) else json.dumps(document)
            self.send_response(404 if document is None else 200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made = Provider(f"https://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sound_issuer_is_described(provider: Provider) -> None:
    assert check_discovery(provider.url) == (
        f"{provider.url} is reachable, states itself to the letter, and has 1 RSA keys"
    )


def test_an_issuer_with_a_last_slash_is_sound_where_it_says_so_itself(provider: Provider) -> None:
    provider.documents[DISCOVERY]["issuer"] += "/"
    assert check_discovery(f"{provider.url}/")
    with pytest.raises(IssuerFault, match="the last slash too: give that"):
        check_discovery(provider.url)


def change(path: str, **changes: Any) -> Callable[[Provider], None]:
    def apply(provider: Provider) -> None:
        provider.documents[path] |= changes

    return apply


@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (
            change(DISCOVERY, issuer="https://other.example.com"),
            "tokens are issued by 'https://other.example.com'",
        ),
        (change(DISCOVERY, issuer=None), "tokens are issued by None"),
        (change(DISCOVERY, jwks_uri=None), "no jwks_uri with https"),
        (change(DISCOVERY, jwks_uri="http://127.0.0.1/keys"), "no jwks_uri with https"),
        (change("/keys", keys=[EC]), "keys of the type EC, API Gateway takes RSA: choose RS256"),
        (change("/keys", keys=[]), "keys of the type none"),
        (change("/keys", keys="RSA"), "keys of the type none"),
        (
            lambda provider: provider.documents.pop("/keys"),
            "/keys cannot be read",
        ),
        (lambda provider: provider.documents.pop(DISCOVERY), "openid-configuration cannot be read"),
        (
            lambda provider: provider.documents.update({DISCOVERY: "<html>"}),
            "openid-configuration cannot be read",
        ),
        (lambda provider: provider.documents.update({DISCOVERY: []}), "holds no JSON object"),
    ],
)
def test_each_fault_of_an_issuer_is_named(
    apply: Callable[[Provider], None], said: str, provider: Provider
) -> None:
    apply(provider)
    with pytest.raises(IssuerFault, match=said):
        check_discovery(provider.url)


def test_an_issuer_without_tls_or_with_a_certificate_of_its_own_is_refused(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IssuerFault, match="takes https only"):
        check_discovery(provider.url.replace("https", "http"))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(IssuerFault, match="certificate verify failed"):
        check_discovery(provider.url)

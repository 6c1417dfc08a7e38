"""An OpenID Connect issuer: discovery and keys over HTTP on loopback, and tokens of every kind.

It signs anything, so that a test can make every token that a gateway must refuse.
"""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_ID = "test-key"
AUDIENCE = "lms-webhooks-test"


class Issuer:
    """One issuer with one RSA key. A context manager."""

    def __init__(self) -> None:
        self._key = new_key()
        documents = {
            "/.well-known/openid-configuration": self._configuration,
            "/jwks": self._jwks,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = documents.get(self.path)
                body = json.dumps(document()).encode() if document else b""
                self.send_response(200 if document else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a token that is good for ten minutes; one that is changed to None is left out."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "user-1", "iat": now - 1, "exp": now + 600}
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(
        self, *, key: rsa.RSAPrivateKey | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token, signed with RS256 by our key or by `key`."""
        signed = _encoded(
            {"alg": "RS256", "typ": "JWT", "kid": KEY_ID} | (header or {}), self.claims(**claims)
        )
        signature = (key or self._key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def unsigned_token(self, *, algorithm: str = "none", **claims: Any) -> str:
        """A token that says that it needs no signature, and has none."""
        return _encoded({"alg": algorithm, "typ": "JWT", "kid": KEY_ID}, self.claims(**claims)) + "."

    def token_by_public_key(self, **claims: Any) -> str:
        """A token whose HMAC has our public key for a secret, which everybody knows."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signed = _encoded({"alg": "HS256", "typ": "JWT", "kid": KEY_ID}, self.claims(**claims))
        mac = hmac.HMAC(public, hashes.SHA256())
        mac.update(signed.encode())
        return f"{signed}.{_base64(mac.finalize())}"

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def _jwks(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "kty": "RSA",
                    "use": "sig",
                    "alg": "RS256",
                    "kid": KEY_ID,
                    "n": _base64(numbers.n.to_bytes(256)),
                    "e": _base64(numbers.e.to_bytes(3)),
                }
            ]
        }


def new_key() -> rsa.RSAPrivateKey:
    """A key that no issuer has."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def with_claims(token: str, **changes: Any) -> str:
    """The token with some of its claims changed, under the signature that it had."""
    header, claims, signature = token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))) | changes
    return f"{header}.{_base64(json.dumps(changed).encode())}.{signature}"


def _encoded(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

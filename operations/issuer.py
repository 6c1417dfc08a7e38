"""See whether API Gateway will be able to verify the tokens of an OpenID Connect issuer.

API Gateway reads the issuer's discovery document and keys, and takes RSA keys only. It compares a token's
`iss` with the parameter letter by letter (its guide, "Control access to HTTP APIs with JWT authorizers").

IssuerFault (an Exception: its text says what is wrong, and the next step)
"""

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

_SECONDS = 10
_MAX_BYTES = 1024 * 1024


class IssuerFault(Exception):
    """API Gateway could not verify the tokens of this issuer."""


def check_discovery(issuer: str) -> str:
    """Read what an issuer publishes about itself; return what is right about it.

    Raises:
        IssuerFault: a part of it is wrong.
    """
    if not issuer.startswith("https://"):
        raise IssuerFault("API Gateway takes https only: give the address with https://")
    configuration = _document(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    stated = configuration.get("issuer")
    if stated != issuer:
        raise IssuerFault(
            f"its tokens are issued by {stated!r}, and each letter counts, the last slash too: give that"
        )
    keys_url = configuration.get("jwks_uri")
    if not isinstance(keys_url, str) or not keys_url.startswith("https://"):
        raise IssuerFault("its configuration has no jwks_uri with https: ask the provider")
    keys = _document(keys_url).get("keys")
    types = [str(key.get("kty")) for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    if "RSA" not in types:
        found = ", ".join(sorted(set(types))) or "none"
        raise IssuerFault(
            f"it signs with keys of the type {found}, API Gateway takes RSA: choose RS256 there"
        )
    return f"{issuer} is reachable, states itself to the letter, and has {types.count('RSA')} RSA keys"


def _document(url: str) -> dict[str, Any]:
    try:
        # With a context of its own: urllib would keep the authorities of its first call.
        context = ssl.create_default_context()
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as response:  # noqa: S310  # https
            document = json.loads(response.read(_MAX_BYTES))
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise IssuerFault(f"{url} cannot be read ({reason}): API Gateway must be able to read it") from error
    if not isinstance(document, dict):
        raise IssuerFault(f"{url} holds no JSON object: ask the provider")
    return document

"""Serve the files of the console, and its settings for this deployment.

The first request for a file reads it, so that no cold start does.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from lms_webhooks.admin.http_responses import SAFETY_HEADERS
from lms_webhooks.admin.problems import PathNotFound
from lms_webhooks.settings import AdminApiSettings

FOLDER = Path(__file__).with_name("console")
INDEX = "index.html"
CONFIG = "config.json"
"""Not a file: made from the settings."""

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

_SLIMMED = (".css", ".js")


@dataclass(frozen=True)
class ConsoleFile:
    """One file of the console."""

    content_type: str
    text: str

    @property
    def etag(self) -> str:
        """A weak tag, as the response may be compressed or not."""
        return f'W/"{hashlib.sha256(self.text.encode()).hexdigest()[:20]}"'


@cache
def _names() -> frozenset[str]:
    """Return the names of all files. A name is looked up here first, so that none leads out of the folder."""
    return frozenset(path.name for path in FOLDER.iterdir())


@cache
def _file(name: str) -> ConsoleFile:
    path = FOLDER / name
    text = path.read_text(encoding="utf-8")
    return ConsoleFile(CONTENT_TYPES[path.suffix], _slim(text) if path.suffix in _SLIMMED else text)


def _slim(text: str) -> str:
    """Leave out indentation, lines of comment, and line ends that part nothing: a sixth of the bytes."""
    lines = (line.strip() for line in text.splitlines())
    kept = (line for line in lines if line and not _is_comment(line))
    return "".join(line if _goes_on(line) else f"{line}\n" for line in kept)


def _goes_on(line: str) -> bool:
    """Whether the next line may follow at once: nothing ends by itself, and no comment swallows it."""
    return line[-1] in ";{,([" and "//" not in line


def _is_comment(line: str) -> bool:
    return line.startswith("//") or (line.startswith("/*") and line.endswith("*/"))


def find(name: str, settings: AdminApiSettings) -> ConsoleFile:
    """Return the file of a name.

    Raises:
        PathNotFound: there is none.
    """
    if name == CONFIG:
        return ConsoleFile(CONTENT_TYPES[".json"], json.dumps(_config(settings)))
    if name not in _names():
        raise PathNotFound
    return _file(name)


def headers(settings: AdminApiSettings) -> dict[str, str]:
    """Return the headers of every file. They let browsers load and call only us and the sign-in."""
    sources = " ".join(["'self'", *_origin(settings.sign_in_url or settings.oidc_issuer)])
    policy = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        f"connect-src {sources}",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        # Cached, but revalidated each time: modules of two versions must never meet.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
        **SAFETY_HEADERS,
    }


def _config(settings: AdminApiSettings) -> dict[str, str]:
    """Return how to sign in, and which claims identify a person. Nothing in it is secret."""
    where = {"signInUrl": settings.sign_in_url} if settings.sign_in_url else {"issuer": settings.oidc_issuer}
    return {
        **where,
        "clientId": settings.sign_in_client_id,
        "accountClaim": settings.account_claim,
        "roleClaim": settings.role_claim,
        "adminRole": settings.admin_role,
    }


def _origin(url: str) -> list[str]:
    parts = urlsplit(url)
    # A parameter that is not a URL must not get into the policy.
    is_plain = parts.scheme in ("https", "http") and not set(parts.netloc) & set(" ;,'\"")
    return [f"{parts.scheme}://{parts.netloc}"] if is_plain and parts.netloc else []

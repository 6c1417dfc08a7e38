"""Serve the console: the files of the folder `console`, and what they must know of this deployment.

Read when somebody asks for them, so that no call of the API waits for them at a cold start.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from lms_webhooks.admin.http_responses import SAFETY_HEADERS
from lms_webhooks.problems import PathNotFound
from lms_webhooks.settings import AdminApiSettings

FOLDER = Path(__file__).with_name("console")
START = "index.html"
CONFIG = "config.json"
"""No file: made from the settings."""

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Page:
    """One file as it is served."""

    content_type: str
    text: str

    @property
    def etag(self) -> str:
        """Weak, as the gateway's answer may be compressed or not."""
        return f'W/"{hashlib.sha256(self.text.encode()).hexdigest()[:20]}"'


@cache
def _names() -> frozenset[str]:
    """A name is looked up here before anything is opened, so that no name leads out of the folder."""
    return frozenset(path.name for path in FOLDER.iterdir())


@cache
def _file(name: str) -> Page:
    return Page(CONTENT_TYPES[Path(name).suffix], (FOLDER / name).read_text(encoding="utf-8"))


def page(name: str, settings: AdminApiSettings) -> Page:
    """The page or the file of a name.

    Raises:
        NoSuchPath: there is none.
    """
    if name == CONFIG:
        return Page(CONTENT_TYPES[".json"], json.dumps(_config(settings)))
    if name not in _names():
        raise PathNotFound
    return _file(name)


def headers(settings: AdminApiSettings) -> dict[str, str]:
    """What browsers are told of each page: to load and call nothing but us and where admins sign in."""
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
        # Kept, and asked for anew each time: modules of two versions must never meet.
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
        **SAFETY_HEADERS,
    }


def _config(settings: AdminApiSettings) -> dict[str, str]:
    """How to sign in, and which claims say who somebody is. Nothing of it is secret."""
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
    # A parameter that is no URL must not end up in the middle of a policy.
    is_plain = parts.scheme in ("https", "http") and not set(parts.netloc) & set(" ;,'\"")
    return [f"{parts.scheme}://{parts.netloc}"] if is_plain and parts.netloc else []

"""Decide where a webhook may point: the one rule for create, test and send.

Two halves. `check_url` judges the text that an admin typed. `check_addresses` judges what the name
resolved to, at the moment a socket is opened; the connection then goes to an address that passed, so
a second, different answer of the name server (DNS rebinding) changes nothing.

ForbiddenTarget (an Exception; `rule` says which rule was broken, in words for the admin)
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from AntiSSRF import IPAddressRanges

MAX_URL_LENGTH = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What the maintained list does not hold: IPv4-compatible IPv6 (RFC 4291 2.5.5.1, deprecated), which some
# stacks still turn into the IPv4 address inside; and IPv4-translated addresses (RFC 2765).
_MISSING_RANGES = ("::/96", "::ffff:0:0:0/96")
_FORBIDDEN_NETWORKS = tuple(
    ipaddress.ip_network(text) for text in (*IPAddressRanges.recommended_latest, *_MISSING_RANGES)
)
_FORM_RULE = "must be a URL such as https://example.com/hooks"
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)+(?!-)[a-z0-9-]{1,63}(?<!-)")
# inet_aton reads 0x7f000001, 017700000001, 127.1 and 2130706433 as addresses; a name's last label never
# looks like a number (WHATWG URL, "ends in a number").
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)\Z")


class ForbiddenTarget(Exception):
    """A target URL, or an address its name resolves to, that no request may go to."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def check_url(url: str, *, loopback_allowed: bool) -> SplitResult:
    """Judge the text of a target URL and return its parts. Resolves nothing.

    `loopback_allowed` is the local stack's switch: plain http and this machine are then fine too.

    Raises:
        ForbiddenTarget: naming the rule that the URL breaks.
    """
    if len(url) > MAX_URL_LENGTH:
        raise ForbiddenTarget(f"must be at most {MAX_URL_LENGTH} characters long")
    if not _VISIBLE_ASCII.fullmatch(url):
        raise ForbiddenTarget("must be ASCII without spaces; write an international name in its xn-- form")
    if "\\" in url:
        raise ForbiddenTarget("must not contain a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenTarget(_FORM_RULE) from None
    host = parts.hostname or ""
    if parts.scheme != "https" and not (loopback_allowed and parts.scheme == "http"):
        raise ForbiddenTarget("must start with https://")
    if not host:
        raise ForbiddenTarget("must name a host, as in https://example.com/hooks")
    if "@" in parts.netloc:
        raise ForbiddenTarget("must not contain a user name or password; use basic authentication")
    if parts.fragment or url.endswith("#"):
        raise ForbiddenTarget("must not contain a fragment (#...)")
    # urlsplit overlooks what follows the bracket in [::1]example.com, and brackets around no address.
    if not re.fullmatch(
        re.escape(f"[{host}]" if ":" in host else host) + r"(:\d*)?", parts.netloc, re.IGNORECASE
    ):
        raise ForbiddenTarget(_FORM_RULE)
    if port == 0:
        raise ForbiddenTarget("must not use port 0")
    if loopback_allowed and _is_this_machine(host):
        return parts
    _check_host(host)
    return parts


def check_addresses(addresses: Iterable[str], *, loopback_allowed: bool) -> None:
    """Judge every address that a name resolved to: one that is forbidden condemns them all.

    Raises:
        ForbiddenTarget: naming the rule; never the address, which would let an admin map a network.
    """
    for text in addresses:
        address = ipaddress.ip_address(text)
        if loopback_allowed and address.is_loopback:
            continue
        _check_address(address)


def _check_host(host: str) -> None:
    if ":" in host:
        if "%" in host:
            raise ForbiddenTarget("must not contain an IPv6 zone")
        try:
            _check_address(ipaddress.IPv6Address(host))
        except ipaddress.AddressValueError:
            raise ForbiddenTarget("must name a valid host") from None
        return
    if host.endswith("."):
        raise ForbiddenTarget("must name its host without a trailing dot")
    if _ENDS_IN_NUMBER.search(host):
        try:
            _check_address(ipaddress.IPv4Address(host))
        except ipaddress.AddressValueError:
            raise ForbiddenTarget("must write an IPv4 address as four decimal numbers") from None
        return
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".localdomain")):
        raise ForbiddenTarget("must name a host on the public internet")
    if not _HOST_NAME.fullmatch(host):
        raise ForbiddenTarget("must name a host by its full domain name")


def _check_address(address: Address) -> None:
    wrapped = getattr(address, "ipv4_mapped", None)
    if wrapped is not None:
        raise ForbiddenTarget("must not wrap an IPv4 address in an IPv6 one")
    if not address.is_global or any(
        address in network for network in _FORBIDDEN_NETWORKS if network.version == address.version
    ):
        raise ForbiddenTarget(
            "must be a public address: private, loopback, link-local, metadata and other special ones are not"
        )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

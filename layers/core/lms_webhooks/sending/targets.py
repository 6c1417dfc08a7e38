"""Decide which URLs a webhook may point to: one rule for create, test and send.

The rule has two halves. `check_url` judges the text, when an admin saves it and again before each POST. So a
URL that was saved under an older rule must keep the present one. `check_addresses` judges the addresses that
the name resolves to, when a socket is opened. The connection then goes to one of those addresses, so a second
DNS lookup with another result (DNS rebinding) changes nothing.

ForbiddenTarget (an Exception; `rule` is the rule that was violated, in words for the admin)
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from urllib.parse import SplitResult, urlsplit

MAX_URL_LENGTH = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What the maintained list does not hold. Of IPv6 only 2000::/3 was ever given out as public, and what lies
# outside holds wrappings of IPv4 addresses that some stacks still undo: IPv4-compatible (::/96, RFC 4291
# 2.5.5.1) and IPv4-translated ones (::ffff:0:0:0/96, RFC 2765). Inside it, the 6bone was given
# back (RFC 3701).
_ALLOCATED_IPV6 = ipaddress.IPv6Network("2000::/3")
_MISSING_RANGES = ("3ffe::/16",)
# ISATAP (RFC 5214 6.1): the IPv4 address in the last 32 bits is where a tunnel would lead.
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)

# Names that no public name server knows: reserved by RFC 6761 and its successors, by ICANN, or those
# that RFC 6762 (appendix G) saw in use within networks. What others stand for shows when they are resolved.
_PRIVATE_NAMES = (
    ".localhost", ".localhost4", ".localhost6", ".local", ".localdomain", ".localdomain4", ".localdomain6",
    ".internal", ".home.arpa", ".lan", ".intranet", ".private",
    ".corp", ".home", ".mail", ".onion", ".alt", ".invalid",
)  # fmt: skip

# Ports of protocols that are not HTTP, where a POST could do harm: the "bad ports" of the Fetch standard
# (2.9 Port blocking), which browsers refuse as well.
_BAD_PORTS = frozenset({
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip
# Databases, caches, brokers and what controls machines: some speak HTTP, and none of them is a receiver. All
# are below the ports that systems give out by themselves, of which a receiver on one machine may have any.
_SERVICE_PORTS = frozenset({
    445, 873, 1433, 1434, 1521, 1883, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5671, 5672, 5900, 5984,
    5985, 5986, 6379, 6380, 6443, 8883, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 27017, 27018, 27019,
})  # fmt: skip
PORTS = {"http": 80, "https": 443}
"""The port of a URL that names none."""
_FORM_RULE = "must be a URL such as https://example.com/hooks"
_UP_TO_PATH = re.compile(r"(?:[^/?#]*//)?[^/?#]+")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
# With underscores, but in the last label: DNS carries them, and receivers have such names.
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)+(?!-)[a-z0-9-]{1,63}(?<!-)")
_JOINERS = re.compile("[\u200c\u200d]")  # not printable, and part of words in Persian and in Indic scripts
# inet_aton reads 0x7f000001, 017700000001, 127.1 and 2130706433 as addresses; a name's last label never
# looks like a number (WHATWG URL, "ends in a number").
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)\Z")


class ForbiddenTarget(Exception):
    """A target URL, or an address its name resolves to, that no request may go to."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def check_url(url: str, *, loopback_allowed: bool) -> SplitResult:
    """Check the text of a target URL and return its parts. Resolves nothing.

    `loopback_allowed` is the local stack's switch: plain http and this machine are then fine too.

    Raises:
        ForbiddenTarget: naming the rule that the URL breaks.
    """
    if len(url) > MAX_URL_LENGTH:
        raise ForbiddenTarget(f"must be at most {MAX_URL_LENGTH} characters long")
    _check_characters(url)
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
    if port in _BAD_PORTS or port in _SERVICE_PORTS:
        raise ForbiddenTarget(f"must not use port {port}, which belongs to another service")
    if loopback_allowed and _is_this_machine(host):
        return parts
    _check_host(host)
    return parts


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL that passed `check_url`."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]


def check_addresses(addresses: Iterable[str], *, loopback_allowed: bool) -> None:
    """Check every address that a name resolved to. One forbidden address forbids them all.

    Raises:
        ForbiddenTarget: naming the rule; never the address, which would let an admin map a network.
    """
    for text in addresses:
        address = ipaddress.ip_address(text)
        if loopback_allowed and address.is_loopback:
            continue
        _check_address(address)


def _check_characters(url: str) -> None:
    if _VISIBLE_ASCII.fullmatch(url):
        return
    # Judged as text: what `urlsplit` makes of such a URL may be something else.
    up_to_path = _UP_TO_PATH.match(url)
    if up_to_path is None or not _VISIBLE_ASCII.fullmatch(up_to_path[0]):
        raise ForbiddenTarget("must be ASCII without spaces; write an international name in its xn-- form")
    raise ForbiddenTarget("must be ASCII without spaces; percent-encode the rest, as in /caf%C3%A9")


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
    if f".{host}".endswith(_PRIVATE_NAMES):
        raise ForbiddenTarget("must name a host on the public internet")
    if not _HOST_NAME.fullmatch(host):
        raise ForbiddenTarget("must name a host by its full domain name")
    if not all(_is_international(label) for label in host.split(".") if label.startswith("xn--")):
        raise ForbiddenTarget("must write an international name in its one valid xn-- form")


def _is_international(label: str) -> bool:
    """Return whether an `xn--` label encodes an international name (RFC 3492) in its one valid spelling.

    Programs read any other label as different names. Whether a registry would accept the name is not checked:
    some accept what IDNA 2008 does not, such as emoji.
    """
    try:
        text = label[4:].encode().decode("punycode")
        text.encode()  # no half of a surrogate pair
        again = text.encode("punycode").decode()
    except UnicodeError:
        return False
    is_one_spelling = again == label[4:] and unicodedata.normalize("NFKC", text.lower()) == text
    return is_one_spelling and not text.isascii() and _JOINERS.sub("", text).isprintable()


def _check_address(address: Address) -> None:
    wrapped = getattr(address, "ipv4_mapped", None)
    if wrapped is not None:
        raise ForbiddenTarget("must not wrap an IPv4 address in an IPv6 one")
    if (
        not address.is_global
        or any(address in network for network in _forbidden_networks() if network.version == address.version)
        or (address.version == 6 and not _is_allocated(address))
    ):
        raise ForbiddenTarget(
            "must be a public address: private, loopback, link-local, metadata and other special ones are not"
        )


@cache
def _forbidden_networks() -> tuple[Network, ...]:
    # It imports requests, which most calls of the admin API have no use for at their cold start.
    from AntiSSRF import IPAddressRanges  # noqa: PLC0415

    texts = (*IPAddressRanges.recommended_latest, *_MISSING_RANGES)
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_allocated(address: ipaddress.IPv6Address) -> bool:
    return address in _ALLOCATED_IPV6 and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP_MARKS


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

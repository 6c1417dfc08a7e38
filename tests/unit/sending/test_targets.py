"""Where a webhook may point: hostile spellings are refused by the rule that they break, good ones pass."""

import ipaddress
import random

import pytest

from lms_webhooks.sending.targets import ForbiddenTarget, check_addresses, check_url
from tests.unit.hostile_targets import (
    ASCII,
    BACKSLASH,
    DOT,
    FOUR_NUMBERS,
    FRAGMENT,
    HOSTILE_URLS,
    PORT,
    PUBLIC,
    USER,
    ZONE,
)

GOOD_URLS = [
    "https://example.com",
    "https://example.com/",
    "https://EXAMPLE.com/Hooks",
    "HTTPS://example.com/hooks",
    "https://hooks.example.co.uk/a/b?c=d&e=%20f",
    "https://example.com:8443/hooks",
    "https://example.com:/hooks",
    "https://example.com?x=1",
    "https://example.com/user@host:80",
    "https://example.com/?next=http://127.0.0.1/",
    "https://xn--bcher-kva.example/hooks",
    "https://XN--BCHER-KVA.example/hooks",
    "https://xn--80ak6aa92e.xn--p1ai/hooks",  # Cyrillic
    "https://xn--fsqu00a.xn--g6w251d/hooks",  # Chinese
    "https://xn--mgba3gch31f060k.example/hooks",  # Persian, with a joiner that it needs
    "https://xn--i-7iq.ws/hooks",  # an emoji
    "https://r3---sn-a5mekn7k.example/hooks",
    "https://1.example.com/",
    "https://my_team_hooks.example.com/",
    "https://_hooks.a_b.example/",
    "https://localhost4.example.com/",
    "https://127.0.0.1.example.com/",
    "https://a-b.c--d.example/",
    "https://8.8.8.8/hooks",
    "https://93.184.215.14:443/",
    "https://[2606:4700:4700::1111]/hooks",
    "https://[2606:4700:4700::1111]:8443/hooks",
    "https://localhost.example.com/",
    "https://internal.example.com/",
    "https://0x.example.com/",
    "https://" + ".".join(["a" * 63] * 3) + ".example/",
]


def test_a_url_has_2048_characters_at_most() -> None:
    longest = "https://example.com/".ljust(2048, "a")
    assert check_url(longest, loopback_allowed=False).path == longest.removeprefix("https://example.com")
    with pytest.raises(ForbiddenTarget, match="must be at most 2048 characters long"):
        check_url(longest + "a", loopback_allowed=False)


# The "bad ports" of the Fetch standard (2.9), then databases, caches, brokers and what controls machines.
# They stand here once more, so that none is lost from the rule by a slip.
REFUSED_PORTS = """
0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117
119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601
636 989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679
6697 10080 445 873 1433 1434 1521 1883 2181 2375 2376 2379 2380 3306 3389 5432 5671 5672 5900 5984 5985
5986 6379 6380 6443 8883 9042 9092 9200 9300 10250 10255 11211 27017 27018 27019
"""


def test_each_port_of_another_service_is_refused_and_none_beside_it() -> None:
    expected = sorted(int(port) for port in REFUSED_PORTS.split())
    beside = {port + step for port in expected for step in (-1, 0, 1)} - {-1}
    refused = []
    for port in sorted({*beside, 80, 443, 8000, 8080, 8443, 49_152, 65_535}):
        try:
            check_url(f"https://example.com:{port}/", loopback_allowed=False)
        except ForbiddenTarget as forbidden:
            refused.append(f"{port}: {forbidden.rule}")
    assert refused == [
        f"{port}: must not use port {port}, which belongs to another service" for port in expected
    ]


@pytest.mark.parametrize("port", REFUSED_PORTS.split())
def test_a_local_stack_refuses_them_too(port: str) -> None:
    with pytest.raises(ForbiddenTarget, match=f"^must not use port {port},"):
        check_url(f"http://localhost:{port}/", loopback_allowed=True)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_url_passes(url: str) -> None:
    parts = check_url(url, loopback_allowed=False)
    assert parts.geturl().lower().startswith("https://")
    assert check_url(url, loopback_allowed=True) == parts


def violated_rule(url: str, *, loopback_allowed: bool) -> str:
    """The rule by which it is refused; empty when it is not."""
    try:
        check_url(url, loopback_allowed=loopback_allowed)
    except ForbiddenTarget as refused:
        return refused.rule
    return ""


def test_a_hostile_url_is_refused_by_the_rule_it_breaks() -> None:
    found = [(url, rule, violated_rule(url, loopback_allowed=False)) for url, rule in HOSTILE_URLS]
    assert [each for each in found if not each[2].startswith(each[1])] == []
    with pytest.raises(ForbiddenTarget) as caught:
        check_url(HOSTILE_URLS[0][0], loopback_allowed=False)
    assert str(caught.value) == caught.value.rule


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/hooks",
        "http://localhost:8080/hooks",
        "https://localhost:8443/",
        "https://127.0.0.1/",
        "http://[::1]:8080/",
        "http://127.9.9.9/",
        "http://example.com/",
    ],
)
def test_a_local_stack_may_use_this_machine_and_plain_http(url: str) -> None:
    assert check_url(url, loopback_allowed=True).geturl() == url
    with pytest.raises(ForbiddenTarget):
        check_url(url, loopback_allowed=False)


def test_a_local_stack_opens_nothing_else() -> None:
    found = [
        (url, rule, violated_rule(url, loopback_allowed=True))
        for url, rule in HOSTILE_URLS
        if rule in {PUBLIC, FOUR_NUMBERS, ZONE, DOT, USER, FRAGMENT, ASCII, BACKSLASH, PORT}
        and "//127." not in url
        and url not in {"https://[::1]/", "https://[0:0:0:0:0:0:0:1]/"}
    ]
    assert len(found) > 150
    assert [each for each in found if not each[2].startswith(each[1])] == []


GOOD_ADDRESSES = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "223.255.255.254", "2606:4700:4700::1111", "2a00::1"]
BAD_ADDRESSES = [
    "0.0.0.0",  # noqa: S104
    "0.1.2.3",
    "10.255.255.255",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.255",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::8.8.8.8",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "1::1",
    "400::1",
    "4000::1",
    "fe00::1",
    "3ffe::1",
    "2606:4700::5efe:8.8.8.8",
    "2606:4700::200:5efe:8.8.8.8",
    "2001::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff::1",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_a_public_address_passes(address: str) -> None:
    check_addresses([address], loopback_allowed=False)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_special_address_is_refused_and_condemns_all_it_comes_with(address: str) -> None:
    """A name that resolves to good and bad addresses is an attack, whichever comes first."""
    draw = random.Random(address)
    for companions in ([], GOOD_ADDRESSES):
        mixed = [*companions, address]
        draw.shuffle(mixed)
        with pytest.raises(ForbiddenTarget) as caught:
            check_addresses(mixed, loopback_allowed=False)
        assert address not in caught.value.rule


def test_all_public_addresses_together_pass() -> None:
    check_addresses(GOOD_ADDRESSES, loopback_allowed=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_local_stack_may_connect_to_this_machine(address: str) -> None:
    check_addresses([address, "8.8.8.8"], loopback_allowed=True)


@pytest.mark.parametrize(
    "address", [each for each in BAD_ADDRESSES if not ipaddress.ip_address(each).is_loopback]
)
def test_a_local_stack_connects_to_no_other_special_address(address: str) -> None:
    with pytest.raises(ForbiddenTarget):
        check_addresses(["127.0.0.1", address], loopback_allowed=True)


@pytest.mark.parametrize(
    ("url", "step"),
    [
        ("https://example.com/caf\u00e9", "percent-encode the rest"),
        ("https://example.com/a b", "percent-encode the rest"),
        ("https://example.com?q=\u4e2d", "percent-encode the rest"),
        ("https://fa\u00df.example/caf\u00e9", "write an international name in its xn-- form"),
        ("https://fa\u00df.example", "write an international name in its xn-- form"),
        ("https://example.com\uff0f169.254.169.254/", "write an international name in its xn-- form"),
    ],
)
def test_what_is_not_ascii_says_what_to_do(url: str, step: str) -> None:
    with pytest.raises(ForbiddenTarget) as refused:
        check_url(url, loopback_allowed=False)
    assert refused.value.rule.startswith(f"{ASCII}; {step}")

"""Where a webhook may point: hostile spellings are refused by the rule that they break, good ones pass."""

import ipaddress
import random

import pytest

from lms_webhooks.targets import MAX_URL_LENGTH, ForbiddenTarget, check_addresses, check_url

PUBLIC = "must be a public address"
FOUR_NUMBERS = "must write an IPv4 address as four decimal numbers"
WRAPPED = "must not wrap an IPv4 address in an IPv6 one"
ASCII = "must be ASCII without spaces"
BACKSLASH = "must not contain a backslash"
FORM = "must be a URL such as"
HTTPS = "must start with https://"
NO_HOST = "must name a host, as in"
USER = "must not contain a user name or password"
FRAGMENT = "must not contain a fragment"
ZONE = "must not contain an IPv6 zone"
DOT = "must name its host without a trailing dot"
INTERNET = "must name a host on the public internet"
FULL_NAME = "must name a host by its full domain name"

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
    "https://1.example.com/",
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

HOSTILE_URLS = [
    # Not https.
    ("http://example.com/", HTTPS),
    ("ftp://example.com/", HTTPS),
    ("file:///etc/passwd", HTTPS),
    ("gopher://127.0.0.1:6379/_INFO", HTTPS),
    ("javascript:alert(1)", HTTPS),
    ("//example.com/", HTTPS),
    ("example.com/hooks", HTTPS),
    ("", ASCII),
    # No host, or something that is none.
    ("https://", NO_HOST),
    ("https:///hooks", NO_HOST),
    ("https:example.com", NO_HOST),
    ("https:/example.com", NO_HOST),
    ("https://:443/", NO_HOST),
    ("https://?x", NO_HOST),
    ("https://example/", FULL_NAME),
    ("https://-a.example/", FULL_NAME),
    ("https://a-.example/", FULL_NAME),
    ("https://a..example/", FULL_NAME),
    ("https://.example.com/", FULL_NAME),
    ("https://a_b.example/", FULL_NAME),
    ("https://exa%6dple.com/", FULL_NAME),
    ("https://example.com%00.evil.example/", FULL_NAME),
    ("https://example.com;evil.example/", FULL_NAME),
    ("https://example.com,evil.example/", FULL_NAME),
    ("https://*.example.com/", FULL_NAME),
    ("https://" + "a" * 64 + ".example/", FULL_NAME),
    ("https://" + ".".join(["a" * 60] * 5) + ".example/", FULL_NAME),
    # IPv4 in every spelling.
    ("https://127.0.0.1/", PUBLIC),
    ("https://127.0.0.1:8443/", PUBLIC),
    ("https://127.8.9.10/", PUBLIC),
    ("https://0.0.0.0/", PUBLIC),
    ("https://10.0.0.1/", PUBLIC),
    ("https://172.16.0.1/", PUBLIC),
    ("https://172.31.255.255/", PUBLIC),
    ("https://192.168.1.1/", PUBLIC),
    ("https://100.64.0.1/", PUBLIC),
    ("https://169.254.169.254/latest/meta-data/", PUBLIC),
    ("https://169.254.170.2/v2/credentials", PUBLIC),
    ("https://100.100.100.200/", PUBLIC),
    ("https://168.63.129.16/", PUBLIC),
    ("https://192.0.0.192/", PUBLIC),
    ("https://192.0.2.1/", PUBLIC),
    ("https://198.18.0.1/", PUBLIC),
    ("https://224.0.0.1/", PUBLIC),
    ("https://239.255.255.250/", PUBLIC),
    ("https://255.255.255.255/", PUBLIC),
    ("https://2130706433/", FOUR_NUMBERS),
    ("https://134744072/", FOUR_NUMBERS),
    ("https://017700000001/", FOUR_NUMBERS),
    ("https://0x7f000001/", FOUR_NUMBERS),
    ("https://0X7F000001/", FOUR_NUMBERS),
    ("https://0x7f.0.0.1/", FOUR_NUMBERS),
    ("https://0177.0.0.1/", FOUR_NUMBERS),
    ("https://127.0.0.01/", FOUR_NUMBERS),
    ("https://127.0.0.0x1/", FOUR_NUMBERS),
    ("https://127.1/", FOUR_NUMBERS),
    ("https://127.0.1/", FOUR_NUMBERS),
    ("https://0/", FOUR_NUMBERS),
    ("https://0x/", FOUR_NUMBERS),
    ("https://127.0.0.1.1/", FOUR_NUMBERS),
    ("https://256.0.0.1/", FOUR_NUMBERS),
    ("https://4294967297/", FOUR_NUMBERS),
    ("https://169.16689662/", FOUR_NUMBERS),
    ("https://example.0x7f000001/", FOUR_NUMBERS),
    ("https://%31%32%37.0.0.1/", FOUR_NUMBERS),
    # IPv6, bare and as a wrapping.
    ("https://[::1]/", PUBLIC),
    ("https://[::]/", PUBLIC),
    ("https://[0:0:0:0:0:0:0:1]/", PUBLIC),
    ("https://[::ffff:127.0.0.1]/", WRAPPED),
    ("https://[::ffff:7f00:1]/", WRAPPED),
    ("https://[::ffff:8.8.8.8]/", WRAPPED),
    ("https://[0:0:0:0:0:ffff:169.254.169.254]/", WRAPPED),
    ("https://[::127.0.0.1]/", PUBLIC),
    ("https://[::8.8.8.8]/", PUBLIC),
    ("https://[::ffff:0:127.0.0.1]/", PUBLIC),
    ("https://[2002:7f00:1::]/", PUBLIC),
    ("https://[2002:808:808::1]/", PUBLIC),
    ("https://[2001:0:808:808::1]/", PUBLIC),
    ("https://[64:ff9b::7f00:1]/", PUBLIC),
    ("https://[64:ff9b::808:808]/", PUBLIC),
    ("https://[64:ff9b:1::a00:1]/", PUBLIC),
    ("https://[fd00:ec2::254]/", PUBLIC),
    ("https://[fc00::1]/", PUBLIC),
    ("https://[fe80::1]/", PUBLIC),
    ("https://[fec0::1]/", PUBLIC),
    ("https://[ff02::1]/", PUBLIC),
    ("https://[ff0e::1]/", PUBLIC),
    ("https://[2001:db8::1]/", PUBLIC),
    ("https://[3fff::1]/", PUBLIC),
    ("https://[100::1]/", PUBLIC),
    ("https://[5f00::1]/", PUBLIC),
    ("https://[fe80::1%25eth0]/", ZONE),
    ("https://[fe80::1%eth0]/", ZONE),
    ("https://[2606:4700:4700::1111%25lo]/", ZONE),
    ("https://[::1/", FORM),
    ("https://::1/", FORM),
    ("https://[example.com]/", FORM),
    ("https://[127.0.0.1]/", FORM),
    ("https://[::1]evil.example/", FORM),
    ("https://[2606:4700:4700::1111]evil.example/", FORM),
    ("https://[2606:4700:4700::1111]443/", FORM),
    ("https://[v1.fe80]/", FORM),
    ("https://[v1.fe80::a]/", "must name a valid host"),
    # Names of this machine or of a private network.
    ("https://localhost/", INTERNET),
    ("https://LOCALHOST:8443/", INTERNET),
    ("https://app.localhost/", INTERNET),
    ("https://printer.local/", INTERNET),
    ("https://metadata.google.internal/", INTERNET),
    ("https://instance-data.ec2.internal/", INTERNET),
    ("https://localhost.localdomain/", INTERNET),
    ("https://localhost./", DOT),
    ("https://example.com./", DOT),
    ("https://127.0.0.1./", DOT),
    ("https://metadata.google.internal./", DOT),
    # User names, ports, fragments.
    ("https://user:password@example.com/", USER),
    ("https://user@example.com/", USER),
    ("https://@example.com/", USER),
    ("https://example.com@127.0.0.1/", USER),
    ("https://127.0.0.1@example.com/", USER),
    ("https://example.com:443@127.0.0.1/", USER),
    ("https://a@b@c.example/", USER),
    ("https://example.com:0/", "must not use port 0"),
    ("https://example.com:65536/", FORM),
    ("https://example.com:-1/", FORM),
    ("https://example.com:+443/", FORM),
    ("https://example.com:44x/", FORM),
    ("https://example.com:443:80/", FORM),
    ("https://example.com/#x", FRAGMENT),
    ("https://example.com/#", FRAGMENT),
    ("https://example.com#@evil.example/", FRAGMENT),
    # What parsers read differently, and look-alikes that IDNA turns into something else.
    ("https://example.com\\@127.0.0.1/", BACKSLASH),
    ("https:\\\\example.com/", BACKSLASH),
    ("https://127.0.0.1\\.example.com/", BACKSLASH),
    ("https://exam\tple.com/", ASCII),
    ("https://example.com/\r\nhost: evil.example", ASCII),
    ("https://example.com/a b", ASCII),
    (" https://example.com/", ASCII),
    ("https://example.com/\x00", ASCII),
    ("https://example.com/\x7f", ASCII),
    ("https://example.com/\n", ASCII),
    ("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", ASCII),  # full-width digits
    ("https://127\u30020\u30020\u30021/", ASCII),  # ideographic full stops
    ("https://\u2460\u2461\u2466.0.0.1/", ASCII),  # circled digits
    ("https://\uff4cocalhost/", ASCII),  # a full-width l
    ("https://ex\u0430mple.com/", ASCII),  # a Cyrillic a
    ("https://bücher.example/", ASCII),
    ("https://example.com\u2044hooks/", ASCII),
    ("https://example.com/\u202e", ASCII),
    ("https://example.com/\ud800", ASCII),
    ("https://example.com/" + "a" * MAX_URL_LENGTH, "must be at most 2048 characters long"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_url_passes(url: str) -> None:
    parts = check_url(url, loopback_allowed=False)
    assert parts.geturl().lower().startswith("https://")
    assert check_url(url, loopback_allowed=True) == parts


@pytest.mark.parametrize(("url", "rule"), HOSTILE_URLS)
def test_a_hostile_url_is_refused_by_the_rule_it_breaks(url: str, rule: str) -> None:
    with pytest.raises(ForbiddenTarget) as caught:
        check_url(url, loopback_allowed=False)
    assert caught.value.rule.startswith(rule)
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


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        (url, rule)
        for url, rule in HOSTILE_URLS
        if rule in {PUBLIC, FOUR_NUMBERS, ZONE, DOT, USER, FRAGMENT, ASCII, BACKSLASH}
        and "//127." not in url
        and url not in {"https://[::1]/", "https://[0:0:0:0:0:0:0:1]/"}
    ],
)
def test_a_local_stack_opens_nothing_else(url: str, rule: str) -> None:
    with pytest.raises(ForbiddenTarget) as caught:
        check_url(url, loopback_allowed=True)
    assert caught.value.rule.startswith(rule)


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

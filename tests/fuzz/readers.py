"""What reads text from outside, and what must hold whatever the text is: its documented errors, or a result.

Each reader has a strategy that makes inputs, mostly good ones with something wrong in them. Its check
raises for an input that breaks its promise. `python -m tests.fuzz.readers` gives those of `WHOLE` 100,000
inputs, and the others some more. The suite gives them some. It also gives every input in `corpus/`, which
once broke one or is of a kind that might.
"""

import argparse
import base64
import hashlib
import json
import logging
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lms_webhooks.admin.caller import identify
from lms_webhooks.admin.http_responses import etag, if_match_holds
from lms_webhooks.admin.inputs import ReplayInput, SampleInput, SubscriptionInput, WebhookInput, WebhookPatch
from lms_webhooks.admin.problems import (
    BodyTooLarge,
    DeliveryNotFound,
    Forbidden,
    InvalidFields,
    InvalidJson,
    InvalidParameters,
)
from lms_webhooks.admin.query_parameters import (
    delivery_id,
    parse_time_ms,
    read_delivery_id,
    read_delivery_query,
    write_cursor,
)
from lms_webhooks.admin.request_body import read_body
from lms_webhooks.dispatcher.batch_reader import CONFLICTING_EVENT
from lms_webhooks.model.events import (
    FIRST_MS,
    LAST_MS,
    MAX_ACCOUNT_ID_LENGTH,
    Event,
    MalformedEvent,
    is_account_id,
    read_event,
    read_sort_key,
)
from lms_webhooks.model.retry import MAX_PROBE_DELAY_SECONDS, retry_after_seconds
from lms_webhooks.observability import logger
from lms_webhooks.sending.response_reader import (
    MAX_FRAMING_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    InvalidResponse,
    ResponseReader,
)
from lms_webhooks.sending.webhook_request import build_body
from tests.operations import operations
from tests.scenarios.world import ACCOUNT, REAL_TIME, World, event_message
from tests.unit.admin_client import admin_settings
from tests.unit.tables import NOW_MS, webhook

CORPUS = Path(__file__).with_name("corpus")
MIN_INPUTS = 100_000
SOURCE = "lms"
WHOLE = ("event", "timestamp", "cursor", "if-match", "dispatch")
"""The readers among whom the inputs that are asked for are shared. What others get comes on top."""
_EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class Reader:
    """One reader of text. It gets `share` of as many inputs as are asked for."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    share: float


##### Inputs: texts, and good texts with some mistakes

_TOKENS = (
    *('"', "\\", "{", "}", "[", "]", ":", ",", " ", "\n", "\t", "\0", "#", "=", "-", "_", "+"),
    *("/", "%", ".", "~", "*", "W/", "GMT", "+9959", "basic", "https://", "@", "%00"),
    *("0", "1", "-1", "1e999", "-0", "1.10", "NaN", "Infinity", "null", "true", "9" * 20, "9" * 5000),
    *("\\u0000", "\\ud800", "\\u202e", "\ud800", "\udfff", "é", "😀", "٣", "²", "\u2028", "\ufeff", "İ"),
    *("accountId", "eventId", "timestamp", "detail", "detail-type", "source", '"accountId":1010,'),
    *("[" * 2000, '{"a":' * 2000),
    *("2026-11-03T12:00:00Z", "+14:00", "-23:59", "24:00", "T", "Z", "W", "0001-01-01", "9999-12-31", "2100"),
)  # fmt: skip

texts = st.text(max_size=60) | st.text(st.characters(), max_size=20) | st.sampled_from(_TOKENS)


@st.composite
def changed(draw: st.DrawFn, good: st.SearchStrategy[str]) -> str:
    """A good text in which up to four places were replaced, removed, doubled or grown."""
    text = draw(good)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 0, 1, 2, 5, 20, 200))))
        put = draw(st.sampled_from(_TOKENS) | st.text(max_size=4) | st.just(text[start:end] * 2))
        text = text[:start] + put + text[end:]
    return text


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


moments = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.sampled_from(
    (
        *("2024-09-27T05:24:03Z", "2024-09-27T05:24:03.123+05:30", "2024-09-27 05:24:03", "20240927T052403Z"),
        *("2024-W39-5", "2024-09-27", "2024-271", "2024-09-27T24:00:00Z", "2024-02-30T00:00:00Z"),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2024-09-27T05:24:03,5Z"),
        *("1727414643", "1727414643000", "1727414643.5", "1727414643000.999", "946684800", "4102444799.9999"),
    )
)
numbers = (
    st.integers().map(str) | st.floats().map(str) | st.decimals().map(str) | st.integers(0, 2**45).map(str)
)
timestamps = changed(moments) | numbers | texts

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
event_texts = st.builds(
    lambda number, milliseconds, account, size: event_message(
        f"e{number}", REAL_TIME, milliseconds, account, data_bytes=size
    ),
    st.integers(0, 10**6),
    st.sampled_from((NOW_MS, FIRST_MS, LAST_MS - 1)) | st.integers(FIRST_MS, LAST_MS - 1),
    st.sampled_from((ACCOUNT, "2020")),
    st.sampled_from((0, 0, 0, 600)),
)


@st.composite
def event_of_anything(draw: st.DrawFn) -> str:
    """An event with some of its fields, and of those of the message around it, replaced by any value."""
    message = json.loads(draw(event_texts))
    for _ in range(draw(st.integers(1, 2))):
        at = (
            draw(st.sampled_from((message, message["detail"])))
            if isinstance(message["detail"], dict)
            else message
        )
        at[draw(st.sampled_from([*sorted(at), "accountId"]) | st.text(max_size=6))] = draw(json_values)
        message.setdefault("detail", None)
    return json.dumps(message, ensure_ascii=draw(st.booleans()))


events = changed(event_texts) | event_of_anything() | texts | json_values.map(json.dumps)
sort_keys = st.builds(lambda at, id_: f"{at:013d}#{id_}", st.integers(0, 10**13), st.text(max_size=30))


_RESPONSES = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: y\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nno\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nretry-after: 120\r\nconnection: close\r\n\r\nlater",
    b"HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
    b"HTTP/1.1 200 OK\nno colon\n folded\n\n",
)
_RESPONSE_TOKENS = (
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b":", b";", b",", b"\xa0", b"\x0b"),
    *(b"content-length: ", b"transfer-encoding: ", b"connection: ", b"upgrade: h2c\r\n", b"trailer: x\r\n"),
    *(b"chunked", b"gzip", b"identity", b"close", b"keep-alive", b"no-keep-alive", b"upgrade"),
    *(b"0", b"1", b"2", b"-1", b"0x2", b"+2", b"2_0", b"ffffffffffffffff", b"9" * 40, b"100", b"101", b"204"),
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2.0 ", b"HTTP/1.1 100 C\r\n\r\n", b"0\r\n\r\n", b"x: y\r\n" * 101),
    *(b"z" * 70_000, *_RESPONSES),
)


def damaged_response(seed_: int) -> list[str]:
    """A response in which up to six places were changed, in pieces. Each character is one byte.

    By a generator of its own: a strategy would take ten times as long for each.
    """
    draw = random.Random(seed_)
    sent = draw.choice(_RESPONSES)
    for _ in range(draw.randrange(7)):
        start = draw.randrange(len(sent) + 1)
        end = min(len(sent), start + draw.choice((0, 0, 1, 2, 5, 20)))
        put = draw.choice(
            (draw.choice(_RESPONSE_TOKENS), draw.randbytes(draw.randrange(4)), sent[start:end] * 2)
        )
        sent = sent[:start] + put + sent[end:]
    cuts = sorted(draw.randrange(len(sent) + 1) for _ in range(draw.randrange(5)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    return [piece.decode("latin-1") for piece in pieces if piece]


responses = st.integers(0, 2**63).map(damaged_response)


##### Checks


def check_event(text: str) -> None:
    """MalformedEvent with a short reason in ASCII, or an event that can be keyed, stored and sent."""
    try:
        event = read_event(text, source=SOURCE, accepted_at_ms=1)
    except MalformedEvent as malformed:
        check_reason(malformed.reason)
    else:
        check_whole(event)


def check_reason(reason: str) -> None:
    """Short, and safe in a log or a mail."""
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 500


def check_whole(event: Event) -> None:
    assert FIRST_MS <= event.occurred_at_ms < LAST_MS
    assert is_account_id(event.account_id)
    assert len(event.account_id) <= MAX_ACCOUNT_ID_LENGTH
    assert event.sort_key[:14] == f"{event.occurred_at_ms:013d}#"
    assert len(event.sort_key.encode()) <= 1010
    assert read_sort_key(event.sort_key)[0] == event.occurred_at_ms
    sent = json.loads(build_body([event]), parse_int=str, parse_float=str)
    assert sent["events"][0]["eventId"] == event.event_id
    assert sent["events"][0]["eventName"] == event.event_name


def check_timestamp(text: str) -> None:
    """As a number or as text in an event: a moment between 2000 and 2100, or no event."""
    good = event_message("e1", REAL_TIME, NOW_MS, ACCOUNT)
    for value in (text, json.dumps(text)):
        check_event(good.replace(f'"timestamp": {NOW_MS}', f'"timestamp": {value}'))


def check_moment(text: str) -> None:
    """A time in a query: milliseconds of 13 digits at most, or None."""
    milliseconds = parse_time_ms(text)
    assert milliseconds is None or 0 <= milliseconds < 10**13


def check_query(given_: dict[str, str]) -> None:
    """InvalidParameters that name what was given, or a range within what was asked for."""
    try:
        query = read_delivery_query(given_, account_id="1010", webhook_id="wh_1")
    except InvalidParameters as problem:
        named = {error["parameter"] for error in problem.document()["errors"]}
        if not named <= {name[:80] for name in given_}:
            raise
        return
    assert query.key_range.start <= query.key_range.end
    assert 1 <= query.limit <= 100
    again = write_cursor(query.filters, f"{NOW_MS:013d}#e1")
    assert again.isascii()


def check_cursor(text: str) -> None:
    check_query({"cursor": text})
    check_query({"cursor": text, "from": "2026-11-03T12:00:00Z", "limit": "1"})


def check_delivery_id(text: str) -> None:
    """NoSuchDelivery, or the one sort key that has this id."""
    try:
        sort_key = read_delivery_id(text)
    except DeliveryNotFound:
        return
    assert delivery_id(sort_key) == text
    assert len(sort_key.encode()) <= 14 + 4 * 240


TAGGED = (
    *(replace(webhook(), version=version) for version in (1, 10)),
    replace(webhook(), webhook_id="wh_" + "b" * 22),
)
"""Webhooks whose tags differ by their version, or by their id alone."""


def check_if_match(text: str) -> None:
    """Yes only where the webhook's own tag stands, or a star."""
    for changed_webhook in TAGGED:
        if if_match_holds(text, changed_webhook):
            assert "*" in text or etag(changed_webhook) in text


def check_retry_after(text: str) -> None:
    """What a receiver writes there: from no time at all to what a message can wait."""
    for now in (0.0, NOW_MS / 1000):
        assert 0 <= retry_after_seconds(text, status_code=503, now_seconds=now) <= MAX_PROBE_DELAY_SECONDS


def check_response(pieces: list[str]) -> None:
    """InvalidResponse, or a response that is the same in other pieces; one that is kept is all that came."""
    sent = "".join(pieces).encode("latin-1")
    results: list[tuple[int, dict[str, str], bytes, bool]] = []
    for split in ([piece.encode("latin-1") for piece in pieces], [sent[:1], sent[1:]]):
        reader = ResponseReader()
        try:
            for piece in filter(None, split):
                assert not reader.is_reusable or reader.is_complete
                reader.feed(piece)
        except InvalidResponse:
            assert not reader.is_reusable
            results.append((0, {}, b"", False))
        else:
            results.append((reader.status_code, reader.headers, bytes(reader.body), reader.is_reusable))
        reader.close()
    assert results[0] == results[1]
    status_code, headers, body, is_reusable = results[0]
    assert status_code == 0 or (200 <= status_code <= 999 and b"HTTP/1." in sent)
    assert len(headers) <= MAX_HEADERS
    assert len(body) <= len(sent) <= len(body) + MAX_HEADER_BYTES + MAX_FRAMING_BYTES or not is_reusable
    if is_reusable:
        assert status_code not in {204, 304} or not body
        assert b"\0" not in sent.removesuffix(body) or "transfer-encoding" in headers
        if "transfer-encoding" not in headers:
            assert len(body) == int(headers.get("content-length", "0"))
            assert sent.endswith(b"\r\n\r\n" + body)
        again = ResponseReader()
        again.feed(sent + b"x")
        assert not again.is_reusable
        again.close()


def check_body(text: str) -> None:
    """A problem that does not repeat what was sent, or a model."""
    for model in (WebhookInput, WebhookPatch, ReplayInput, SampleInput, SubscriptionInput):
        event = {"headers": {"content-type": "application/json"}, "body": text, "isBase64Encoded": False}
        try:
            read_body(model, event, context={"loopback_allowed": False})
        except (InvalidFields, InvalidJson, BodyTooLarge) as problem:
            json.dumps(problem.document()).encode()


def check_claims(claims: dict[str, Any]) -> None:
    """Forbidden, or a caller of an account that can be one."""
    try:
        caller = identify(claims, admin_settings())
    except Forbidden:
        return
    assert is_account_id(caller.account_id)


def check_dispatch(bodies: list[str]) -> None:
    """Each message is in quarantine with its reason, delivered, or of nobody; none comes again."""
    world, endpoint = _world()
    quarantined_before, posts_before = len(world.quarantined), len(endpoint.posts)
    malformed, wanted, events = 0, set(), set()
    for body in bodies:
        try:
            event = read_event(body, source=SOURCE, accepted_at_ms=int(world.now * 1000))
        except MalformedEvent:
            malformed += 1
        else:
            events.add((event.account_id, event.sort_key))
            if event.account_id == ACCOUNT and event.event_name == REAL_TIME:
                wanted.add(event.event_id)
        world.realtime_queue.send(body)
    world.run(5)
    assert world.realtime_queue.messages == []
    assert world.realtime_queue.dead == []
    quarantined = world.quarantined[quarantined_before:]
    reasons = [json.loads(message, parse_int=str)["reason"] for message in quarantined]
    second_texts = reasons.count(CONFLICTING_EVENT)
    assert len(reasons) - second_texts == malformed
    assert second_texts <= len(bodies) - malformed - len(events - _keys)
    _keys.update(events)
    assert all(reasons)
    assert all(len(message.encode()) <= 1024 * 1024 for message in quarantined)
    known = {id_ for post in endpoint.posts for id_ in post.event_ids}
    assert wanted <= known
    assert len(endpoint.posts) - posts_before <= len(bodies)


_worlds: list[tuple[World, Any, int]] = []
_keys: set[tuple[str, str]] = set()
"""Account and sort key of each event that came to the world of now."""


def _world() -> tuple[World, Any]:
    """A world with a webhook in direct mode; a new one now and then, since each keeps all that it saw."""
    if not _worlds or _worlds[-1][2] >= 200:
        close_world()
        world = World()
        endpoint = world.endpoint()
        world.register(endpoint)
        _worlds.append((world, endpoint, 0))
    world, endpoint, used = _worlds.pop()
    _worlds.append((world, endpoint, used + 1))
    return world, endpoint


def close_world() -> None:
    while _worlds:
        _worlds.pop()[0].__exit__(None)
    _keys.clear()


tags = [etag(each) for each in TAGGED]
good_bodies = [json.dumps(each.body) for each in operations() if each.body]
claim_values = (
    json_values | st.sampled_from(("1010", "[integration-admin]", ["integration-admin"], "[a b]")) | texts
)
READERS: dict[str, Reader] = {
    "event": Reader(events, check_event, 0.4),
    "timestamp": Reader(timestamps, check_timestamp, 0.22),
    "moment": Reader(timestamps, check_moment, 0.05),
    "cursor": Reader(
        changed(sort_keys.map(lambda key: encoded(json.dumps(["f" * 16, key]))))
        | changed(st.builds(lambda key: json.dumps(["f" * 16, key]), sort_keys)).map(encoded)
        | json_values.map(json.dumps).map(encoded)
        | texts,
        check_cursor,
        0.22,
    ),
    "query": Reader(
        st.dictionaries(
            st.sampled_from(("status", "eventName", "from", "to", "limit", "cursor")) | st.text(max_size=5),
            changed(moments) | st.integers().map(str) | texts,
            max_size=4,
        ),
        check_query,
        0.05,
    ),
    "delivery-id": Reader(
        changed(sort_keys.map(encoded)) | changed(sort_keys).map(encoded) | texts, check_delivery_id, 0.05
    ),
    "if-match": Reader(
        changed(st.sampled_from((*tags, *(f"W/{tag}" for tag in tags), "*", ", ".join(tags)))) | texts,
        check_if_match,
        0.12,
    ),
    "retry-after": Reader(
        changed(st.sampled_from(("120", "Tue, 03 Nov 2026 12:00:00 GMT", "Tue, 03 Nov 26 12:00:00 +9959")))
        | numbers
        | texts,
        check_retry_after,
        0.03,
    ),
    "response": Reader(responses, check_response, 1),
    "body": Reader(
        changed(st.sampled_from(good_bodies)) | json_values.map(json.dumps) | texts, check_body, 0.04
    ),
    "claims": Reader(
        st.dictionaries(
            st.sampled_from(("custom:account_id", "cognito:groups", "email", "sub")), claim_values, max_size=4
        ),
        check_claims,
        0.02,
    ),
    "dispatch": Reader(st.lists(events, min_size=1, max_size=4), check_dispatch, 0.04),
}


##### The corpus


def corpus() -> Iterator[tuple[str, str, Any]]:
    """Each kept input: its file's name, its reader and itself."""
    for path in sorted(CORPUS.glob("*.json")):
        kept = json.loads(path.read_text())
        yield path.stem, kept["reader"], kept["input"]


def keep(reader: str, input_: Any) -> Path:
    """Keep an input that broke a promise."""
    text = json.dumps({"reader": reader, "input": input_}, indent=1) + "\n"
    path = CORPUS / f"{reader}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    CORPUS.mkdir(exist_ok=True)
    path.write_text(text)
    return path


##### The program


def main(given_: Sequence[str] | None = None) -> int:
    """Give every reader its share of inputs; return 0 when each got it and none broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.readers")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--inputs", type=int, default=MIN_INPUTS)
    parser.add_argument("--only", default=",".join(READERS), help="readers, separated by commas")
    parser.add_argument("--counts", type=Path, help="a file to write to how many inputs each reader got")
    arguments = parser.parse_args(given_)
    logger.setLevel(logging.CRITICAL)  # each malformed event is a line
    print(f"seed {arguments.seed}", flush=True)
    counted: Counter[str] = Counter()
    names = arguments.only.split(",")
    bad = 0
    try:
        for name in names:
            bad += not _give(name, count_for(name, arguments.inputs), arguments.seed, counted)
    finally:
        close_world()
    whole = sum(counted[name] for name in WHOLE)
    print(f"{whole} inputs for {', '.join(WHOLE)}, {counted.total() - whole} for others", end="; ")
    print(f"{bad} of {len(names)} readers broke or had too few; seed {arguments.seed}")
    if arguments.counts:
        arguments.counts.write_text(json.dumps(counted))
    return int(bool(bad))


def count_for(name: str, inputs: int) -> int:
    """How many a reader gets when `inputs` are asked for."""
    return math.ceil(round(inputs * READERS[name].share, 6))


def _give(name: str, count: int, seed_: int, counted: Counter[str]) -> bool:
    """`count` different inputs for one reader; a broken promise is shown, shrunk, and kept. Return whether
    all were given and none broke it."""
    reader = READERS[name]
    broken: list[Any] = []
    seen: set[int] = set()
    began = shown = time.monotonic()

    def check(input_: Any) -> None:
        nonlocal shown
        seen.add(hash(repr(input_)))
        if time.monotonic() - shown > _EVERY_SECONDS:
            shown = time.monotonic()
            print(f"  {name:12} {len(seen):8} of {count}", flush=True)
        try:
            reader.check(input_)
        except Exception:
            broken[:] = [input_]  # the last is the smallest
            raise

    runs_without_a_new_one = 0
    while len(seen) < count:
        before = len(seen)
        given_ = settings(
            max_examples=max(100, count - before),
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        try:
            seed(seed_)(given_(given(reader.inputs)(check)))()
        except Exception as error:
            if not broken:
                raise
            print(f"✗ {name}: {type(error).__name__}: {str(error)[:300]}")
            print(f"  {broken[0]!r}"[:600])
            print(f"  kept as {keep(name, broken[0])}", flush=True)
            return False
        finally:
            counted[name] = len(seen)
        seed_ += 1
        runs_without_a_new_one = runs_without_a_new_one + 1 if len(seen) == before else 0
        if runs_without_a_new_one == 3:
            print(f"✗ {name}: TOO FEW: {len(seen)} inputs of {count}; there seem to be no more", flush=True)
            return False
    print(f"✓ {name:12} {len(seen):8} inputs in {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())

"""What cannot be delivered is kept with its reason, reaches no webhook and holds up no other event."""

import json
import uuid
from typing import Any

import pytest

from lms_webhooks.model.events import MAX_DETAIL_BYTES
from tests.e2e.system import Account
from tests.fakes.receiver import Receiver

OTHER_SOURCE = "source is not 'lms'"

# What is wrong; changes of the event (None: left out); its entry on the bus; the reason that is kept.
CASES: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
    ("unknown type", {"eventName": "COURSE_EXPLODED"}, {}, "it must be one of the catalogue"),
    ("foreign source", {}, {"source": "crm"}, OTHER_SOURCE),
    ("detail-type of another", {}, {"detail_type": "COURSE_COMPLETED"}, "they must agree"),
    ("no eventName", {"eventName": None}, {"detail_type": "CI_STATS"}, "eventName is missing"),
    ("no eventId", {"eventId": None}, {}, "eventId is missing"),
    ("no accountId", {"accountId": None}, {}, "accountId is missing"),
    ("no timestamp", {"timestamp": None}, {}, "timestamp is missing"),
    ("accountId null", {"accountId": [1]}, {}, "accountId is a list"),
    ("1970", {"timestamp": 12}, {}, "timestamp is the number 12; it must be"),
    ("2286", {"timestamp": 9_999_999_999_999}, {}, "between 2000 and 2100"),
    ("yesterday", {"timestamp": "yesterday"}, {}, "timestamp is 'yesterday'"),
    ("oversized", {"data": "x" * MAX_DETAIL_BYTES}, {}, f"at most {MAX_DETAIL_BYTES} can be delivered"),
]


@pytest.mark.parametrize(
    ("changes", "entry", "reason"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_a_malformed_event_is_quarantined_with_its_reason(
    changes: dict[str, Any], entry: dict[str, str], reason: str, account: Account, receiver: Receiver
) -> None:
    account.create(receiver.url())
    marker = str(uuid.uuid4())
    malformed = account.event(eventInfo=marker, **changes)
    account.system.put(malformed, **entry)
    good = account.emit()

    kept = account.system.wait_for_quarantined(marker)
    assert reason in kept["reason"]
    assert kept["event"]["detail"] == malformed
    assert kept["event"]["source"] == entry.get("source", "lms")
    assert receiver.wait_for_requests(1)
    account.system.wait_until_done()
    assert [request.event_ids for request in receiver.requests] == [[good["eventId"]]]


@pytest.mark.parametrize("message", ["not JSON: {}", '"{}"', '{{"detail":"{}"}}', '{{"detail-type":"{}"}}'])
def test_a_message_that_is_no_event_is_quarantined_whole(message: str, account: Account) -> None:
    marker = str(uuid.uuid4())
    text = message.format(marker)
    account.system.send_raw(text)
    kept = account.system.wait_for_quarantined(marker)
    assert kept["reason"]
    assert kept.get("message", json.dumps(kept.get("event"), separators=(",", ":"))) == text
    account.system.wait_until_done()

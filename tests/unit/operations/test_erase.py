"""What is stored of one learner is found in whatever form it stands, and erased; nothing else is."""

import json
from dataclasses import replace
from typing import Any

import boto3
import pytest

from lms_webhooks.aws.dynamodb import Table
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.deliveries import Delivery, Outcome
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.lanes import Lane, PendingEvent
from lms_webhooks.stores.backlog import Backlog
from lms_webhooks.stores.deliveries import DeliveryStore
from operations.erase import _ARCHIVE, _QUEUES, System, is_about, main, run
from tests.contract.template import TEMPLATE
from tests.engines.dynamodb import REGION
from tests.unit.tables import NOW_MS, event

LEARNER = "4279332"
WEBHOOK, OTHER_WEBHOOK = "wh_" + "a" * 22, "wh_" + "b" * 22
OK = Attempt(NOW_MS, 40, 204, None)
ABOUT = {
    "number": {"userId": 4279332},
    "text": {"userId": "4279332"},
    "deep": {"request": {"data": [{"learner": {"userID": 4279332}}]}},
    "user of a group": {"request": {"data": [{"type": "user", "id": "4279332"}]}},
    "decimal form": {"userId": 4279332.0},
    "text of a decimal form": {"userId": "4279332.00"},
    "with an exponent": {"USERID": "4.279332E6"},
    "with blanks": {"userId": " 4279332 "},
    "user in capitals": {"request": {"Type": "USER", "ID": 4279332}},
    "compressed": {"userId": 4279332, "note": "x" * 2000},
}
NOT_ABOUT: dict[str, Any] = {
    "another": {"userId": 42793321},
    "decimal": {"userId": 4279332.5},
    "zeros in front": {"userId": "04279332"},
    "absurd": {"userId": "1e99999999999999999999"},
    "not a person": {"seatLimit": 4279332, "type": "course", "id": "4279332"},
    "in a text": {"note": "userId 4279332"},
    "nothing": {},
}


def text_of(data: object) -> str:
    return json.dumps({"eventId": "e", "eventName": "COURSE_ENROLLMENT", "timestamp": 1, "data": data})


@pytest.mark.parametrize("data", ABOUT.values(), ids=ABOUT.keys())
def test_a_learner_is_found(data: object) -> None:
    assert is_about(text_of(data), LEARNER)


@pytest.mark.parametrize("data", [*NOT_ABOUT.values(), None, [], "4279332", 4279332])
def test_what_is_not_the_learner_is_not(data: object) -> None:
    assert not is_about(text_of(data), LEARNER)


def test_a_learner_is_found_however_deep_and_however_the_number_is_written() -> None:
    inner: dict[str, Any] = {"userId": 4279332}
    for _ in range(900):
        inner = {"in": [inner]}
    assert is_about(text_of(inner), LEARNER)
    assert is_about('{"data": {"userId": 4.279332e6}}', LEARNER)
    assert is_about('{"data": {"userId": 4279332}}', "4279332.0")


def test_a_key_that_stands_twice_hides_nobody() -> None:
    """A receiver that takes the first of them has the learner, and so has what is stored."""
    for pair in ('"userId": 4279332, "userId": 1', '"userId": 1, "userId": 4279332'):
        assert is_about(f'{{"data": {{{pair}}}}}', LEARNER)
    assert is_about('{"data": {"type": "user", "type": "course", "id": "4279332"}}', LEARNER)


def test_an_email_is_found_in_either_case() -> None:
    assert is_about(text_of({"user": {"email": "Ada@Example.com"}}), "ada@example.COM")
    assert not is_about(text_of({"user": {"email": "ada@example.com.au"}}), "ada@example.com")


def test_every_type_of_the_catalogue_that_names_a_learner_is_found() -> None:
    for event_type in EVENT_TYPES.values():
        text = json.dumps(event_type.sample_event())
        assert is_about(text, LEARNER) == (LEARNER in json.dumps(event_type.sample)), event_type.name


@pytest.fixture
def system(table: Table) -> System:
    """The history and every lane of two webhooks, with events of two accounts, of the learner and others."""
    history = DeliveryStore(table, retention_days=30)
    backlog = Backlog(table, retention_days=7)
    for account_id, first in (("1010", 100), ("2020", 200)):
        happened = [
            event(
                f"e{first + number}", at_ms=NOW_MS + first + number, text=text_of(data), account_id=account_id
            )
            for number, data in enumerate((*ABOUT.values(), *NOT_ABOUT.values()))
        ]
        for webhook_id in (WEBHOOK, OTHER_WEBHOOK):
            delivered = [Delivery(webhook_id, each, Outcome.DELIVERED, (OK,)) for each in happened]
            history.record(delivered, recorded_at_seconds=NOW_MS // 1000)
            for lane in Lane:
                backlog.append(webhook_id, lane, [PendingEvent(each, due_at_ms=NOW_MS) for each in happened])
                backlog.set_marker(account_id, webhook_id, lane, accepted_at_ms=NOW_MS)
    sqs = boto3.client("sqs", region_name=REGION)
    url = sqs.create_queue(QueueName="quarantine")["QueueUrl"]
    client: Any = table.client
    return System(client.behind, sqs, table.name, {"QuarantineQueue": url})


def stored(table: Table) -> dict[tuple[str, str], str]:
    pages = table.client.get_paginator("scan").paginate(TableName=table.name)
    return {(item["pk"]["S"], item["sk"]["S"]): str(item) for page in pages for item in page["Items"]}


@pytest.mark.slow
def test_without_the_word_nothing_is_changed(
    system: System, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stored(table)
    assert run(system, "1010", LEARNER, erasing=False) == 0
    assert stored(table) == before
    printed = capsys.readouterr().out
    assert f"{len(ABOUT):8} in history            of {WEBHOOK}" in printed
    for lane in Lane:
        assert f"{len(ABOUT):8} in waiting ({lane}) " in printed
    assert f"{2 * len(ABOUT) * (1 + len(Lane))} found; nothing was changed" in printed
    assert "is never sent" in printed
    assert "not searched" not in printed


def test_queues_that_hold_events_are_named_since_they_cannot_be_searched(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.sqs.send_message(QueueUrl=system.queues["QuarantineQueue"], MessageBody="{}")
    run(system, "1010", LEARNER, erasing=False)
    assert "1 on QuarantineQueue, not searched" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("erasing", [False, True])
def test_an_archive_that_would_bring_them_back_is_named(
    system: System, erasing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run(system, "1010", LEARNER, erasing=erasing)
    assert "archive" not in capsys.readouterr().out
    run(replace(system, archive="lms-archive-1"), "1010", LEARNER, erasing=erasing)
    printed = capsys.readouterr().out
    assert "The archive lms-archive-1 holds every event" in printed
    assert "a replay of it brings this learner's back" in printed


@pytest.mark.slow
def test_all_of_the_learner_is_erased_and_nothing_else(
    system: System, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stored(table)
    assert run(system, "1010", LEARNER, erasing=True) == 0
    after = stored(table)
    gone = before.keys() - after.keys()
    assert len(gone) == 2 * len(ABOUT) * (2 + len(Lane)), "where they stood in the retry lane too"
    assert {key: before[key] for key in after} == after, "what is left is as it was, marks included"
    assert run(system, "1010", LEARNER, erasing=False) == 0
    assert "0 found" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("erasing", [False, True])
def test_what_cannot_be_read_is_named_and_hides_nothing_else(
    system: System, table: Table, erasing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """One was nested as deep as a dispatcher's Python read it, and one is of a newer version."""
    deep = "[" * 50_000 + "]" * 50_000
    history = DeliveryStore(table, retention_days=30)
    too_deep = event("deep", text=f'{{"eventId":"deep","data":{deep}}}')
    history.record(
        [Delivery(WEBHOOK, too_deep, Outcome.DELIVERED, (OK,))], recorded_at_seconds=NOW_MS // 1000
    )
    newer: dict[str, Any] = {
        "pk": {"S": f"DELIVERY#{WEBHOOK}"}, "sk": {"S": "newer"}, "account_id": {"S": "1010"},
        "event": {"B": b"packed otherwise"},
    }  # fmt: skip
    table.client.put_item(TableName=table.name, Item=newer)
    assert run(system, "1010", LEARNER, erasing=erasing) == 1
    printed = capsys.readouterr().out
    done = "erased" if erasing else "found; nothing was changed"
    assert f"{2 * len(ABOUT) * (1 + len(Lane))} {done}" in printed
    assert "       2 could not be read, and are as they were:" in printed
    for sort_key in (too_deep.sort_key, "newer"):
        assert f"DELIVERY#{WEBHOOK} {sort_key}" in printed
        assert (f"DELIVERY#{WEBHOOK}", sort_key) in stored(table)


@pytest.mark.slow
def test_another_account_s_learner_of_the_same_id_is_somebody_else(system: System, table: Table) -> None:
    run(system, "1010", LEARNER, erasing=True)
    assert run(system, "2020", LEARNER, erasing=False) == 0
    left = [text for text in stored(table).values() if "'2020'" in text]
    assert len([text for text in left if "DUE#" not in text]) == 2 * len(ABOUT | NOT_ABOUT) * (1 + len(Lane))


@pytest.mark.parametrize("given", [("", LEARNER), ("1010", "")])
def test_nobody_in_particular_is_refused(given: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make erase` says it when a name is forgotten."""
    monkeypatch.setattr("sys.argv", ["erase", "--account", given[0], "--learner", given[1], "--erase"])
    with pytest.raises(SystemExit, match="2"):
        main()


def test_what_it_cannot_search_are_outputs_of_the_template() -> None:
    assert {*_QUEUES, _ARCHIVE} <= TEMPLATE["Outputs"].keys()


@pytest.mark.slow
def test_what_comes_while_it_erases_is_told(
    system: System, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drainer had read one of them, sent it, and records it after it was erased."""
    history = DeliveryStore(table, retention_days=30)
    late = Delivery(WEBHOOK, event("late", text=text_of({"userId": LEARNER})), Outcome.DELIVERED, (OK,))

    def erase_and_record(dynamodb: Any, table_name: str, found: Any) -> None:
        dynamodb.delete_item(TableName=table_name, Key=found.key)
        history.record([late], recorded_at_seconds=NOW_MS // 1000)

    monkeypatch.setattr("operations.erase.erase", erase_and_record)
    assert run(system, "1010", LEARNER, erasing=True) == 1


def test_bodies_of_responses_that_may_be_about_the_learner_go_before_the_events(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the events say which bodies these are."""
    history = DeliveryStore(table, retention_days=30)
    theirs, other = (
        event(f"e{number}", at_ms=NOW_MS + number, text=text_of({"userId": user}))
        for number, user in enumerate((4279332, 77))
    )
    history.record(
        [Delivery(WEBHOOK, each, Outcome.DELIVERED, (OK,)) for each in (theirs, other)],
        recorded_at_seconds=NOW_MS // 1000,
    )
    bodies = (
        ("carried it", [other.sort_key, theirs.sort_key], "overloaded"),
        ("names the learner", [other.sort_key], "no such user: 4279332"),
        ("another's", [other.sort_key], "no such user: 77"),
    )
    for number, (_, keys, body) in enumerate(bodies):
        attempt = replace(OK, started_at_ms=NOW_MS + number, status_code=503)
        history.keep_body("1010", WEBHOOK, keys, attempt, body, recorded_at_seconds=NOW_MS // 1000)
    client: Any = table.client
    deleted: list[str] = []

    def delete(**call: Any) -> Any:
        deleted.append(call["Key"]["pk"]["S"].partition("#")[0])
        return client.behind.delete_item(**call)

    client.answers["delete_item"] = delete
    system = System(client, boto3.client("sqs", region_name=REGION), table.name, {})
    assert run(system, "1010", LEARNER, erasing=True) == 0
    assert "2 in response bodies" in capsys.readouterr().out
    assert deleted == ["BODY", "BODY", "DELIVERY", "RETRY"]
    left = history.bodies(WEBHOOK, from_ms=NOW_MS, to_ms=NOW_MS + 9, limit=9)
    assert left == {NOW_MS + 2: "no such user: 77"}

"""The admin API as an admin meets it: what it takes, what it refuses and how it says so."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import BasicAuthentication, SignatureAuthentication
from tests.operations import Operation, operations
from tests.unit.admin_client import ADMIN_CLAIMS, VALID, AdminClient, admin_client, etag

NAME_RULE = "must have a name of 1 to 64 letters, digits, hyphens and other characters of an HTTP token"
IDLE_RULE = (
    "must have joiners and variation selectors only where they show: in words of Arabic, Indic and related"
    " scripts, and in emoji"
)
HIDDEN_RULE = "must not contain characters that are invisible or change the direction of the text"
SCHEDULE_RULE = "must have everyMinutes alone, or dailyAt and timeZone"
PERIOD_RULE = "must be a whole number from 5 to 1440"
VALUE_RULE = "must have a value of 1 to 1024 visible ASCII characters, with spaces or tabs only between them"

REPOSITORY = Path(__file__).parents[3]
READER_CLAIMS = {**ADMIN_CLAIMS, "cognito:groups": "[integration-reader]"}
OTHER_CLAIMS = {**ADMIN_CLAIMS, "custom:account_id": "2020"}


# Making clients of AWS takes far longer than any test here, so they share them; each has an empty table.
@pytest.fixture(scope="module")
def shared_client() -> Iterator[AdminClient]:
    with admin_client() as client:
        yield client


def test_a_webhook_is_created_read_listed_and_deleted(client: AdminClient) -> None:
    created = client.create(description="All of HR's")
    assert created.status == 201
    webhook_id = created.body["webhookId"]
    assert created.body == {
        "webhookId": webhook_id,
        "name": "Enrollments to HR",
        "description": "All of HR's",
        "targetUrl": "https://hooks.example.com/lms",
        "authentication": {"type": "none"},
        "events": ["COURSE_ENROLLMENT", "COURSE_COMPLETED"],
        "status": "active",
        "ordered": False,
        "headers": {},
        "batchSchedule": {"everyMinutes": 15},
        "keepResponseBodies": False,
        "health": {"mode": "direct", "attempts": []},
        "pending": {"count": 0, "atLeast": False, "lanes": {}},
        "createdAt": "2026-11-03T12:00:00.005Z",
        "updatedAt": "2026-11-03T12:00:00.005Z",
        "createdBy": "ada@example.com",
        "updatedBy": "ada@example.com",
    }
    assert created.headers["Location"] == f"/v1/webhooks/{webhook_id}"
    assert created.headers["ETag"] == etag(webhook_id, 1)
    assert created.headers["Content-Type"] == "application/json"
    assert created.headers["Cache-Control"] == "no-store"

    read = client.call("GET", f"/v1/webhooks/{webhook_id}")
    assert (read.status, read.body, read.headers["ETag"]) == (200, created.body, created.headers["ETag"])
    assert client.call("GET", "/v1/webhooks").body == {"webhooks": [created.body]}

    deleted = client.call("DELETE", f"/v1/webhooks/{webhook_id}")
    assert (deleted.status, deleted.text) == (204, "")
    # A drainer records as failed what is pending, though some lanes are due in days only: one is due soon.
    (mark,) = client.backlog.markers(webhook_id).values()
    assert (mark.lane, mark.account_id) == (Lane.REPLAY, "1010")
    assert client.sent_for_drainers() == []
    for method in ("GET", "DELETE"):
        gone = client.call(method, f"/v1/webhooks/{webhook_id}")
        assert (gone.status, gone.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-webhook")
    assert client.call("GET", "/v1/webhooks").body == {"webhooks": []}


def test_the_catalogue_is_listed_in_order(client: AdminClient) -> None:
    listed = client.call("GET", "/v1/event-types").body["eventTypes"]
    assert [one["eventName"] for one in listed] == list(EVENT_TYPES)
    (shown,) = (one for one in listed if one["eventName"] == "COURSE_ENROLLMENT")
    assert shown == {
        "eventName": "COURSE_ENROLLMENT",
        "label": "Learner enrolls themselves in a course",
        "category": "real-time",
        "sample": dict(EVENT_TYPES["COURSE_ENROLLMENT"].sample),
        "dataSchema": shown["dataSchema"],
    }
    assert shown["dataSchema"]["properties"].keys() == shown["sample"].keys()
    assert {one["category"] for one in listed} == {"real-time", "non-real-time"}


def test_a_signing_secret_is_shown_once_and_kept_encrypted(client: AdminClient) -> None:
    created = client.create(authentication={"type": "signature"})
    webhook_id = created.body["webhookId"]
    secret = created.body["authentication"]["secret"]
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    for path in (f"/v1/webhooks/{webhook_id}", "/v1/webhooks"):
        answer = client.call("GET", path)
        assert "whsec_" not in answer.text
        assert '"authentication":{"type":"signature"}' in answer.text
    kept = client.store.get("1010", webhook_id).authentication
    assert isinstance(kept, SignatureAuthentication)
    assert secret.encode() not in kept.secret_ciphertext
    opened = client.secret_box.decrypt(kept.secret_ciphertext, account_id="1010", webhook_id=webhook_id)
    assert opened == secret


def test_a_basic_password_is_never_shown(client: AdminClient) -> None:
    created = client.create(authentication={"type": "basic", "username": "ada", "password": "pässwörd:1"})
    webhook_id = created.body["webhookId"]
    for answer in (created, client.call("GET", f"/v1/webhooks/{webhook_id}")):
        assert answer.body["authentication"] == {"type": "basic", "username": "ada"}
    kept = client.store.get("1010", webhook_id).authentication
    assert isinstance(kept, BasicAuthentication)
    opened = client.secret_box.decrypt(kept.password_ciphertext, account_id="1010", webhook_id=webhook_id)
    assert opened == "pässwörd:1"


def test_fields_that_may_be_left_out(client: AdminClient) -> None:
    created = client.create(description=None, status=None)
    assert (created.body["description"], created.body["status"]) == ("", "active")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"name": "ü" * 80},
        {"name": "👁️‍🗨️ نمی‌خواهم"},  # joiners and a variation selector, as emoji and Persian need them
        *(
            {field: text}
            for field in ("name", "description")
            for text in (
                "❤\ufe0f 1\ufe0f⃣ ‼\ufe0f ©\ufe0f",
                "👩🏽\u200d💻 🏳\ufe0f\u200d🌈 🧑\u200d🤝\u200d🧑 🏃\u200d➡\ufe0f",
                "PDF\u200c\u0647\u0627 ۲۰\u200cس\u0627ل\u0647",  # Persian endings
                "\u0647\u200d.ش",  # an Iranian calendar, abbreviated
                "क्\u200dष र्\u200cक",  # Hindi, joined and not
                "র\u200d্যা",  # Bengali, with the joiner before the sign that joins
                "അവന്\u200d",  # Malayalam, at the end of a word
                "ಫೇಸ್\u200cಬುಕ್\u200c",  # Kannada, the same
                "ශ්\u200dරී ලංකා",  # Sinhala
            )
        ),
        {"description": "ü" * 140},
        {"description": "two\nlines"},
        {"description": ""},
        {"status": "inactive"},
        {"status": "paused"},
        {"ordered": True},
        {"headers": {f"X-Team-{number}": "v" * 1024 for number in range(10)}},
        {"headers": {"x": "a b\tc"}},
        {"events": list(EVENT_TYPES)},
        {"targetUrl": "https://hooks.example.com:8443/a?b=c"},
        {"authentication": {"type": "basic", "username": "u" * 255, "password": "p" * 255}},
    ],
    ids=str,
)
def test_what_is_allowed_is_taken(client: AdminClient, change: dict[str, Any]) -> None:
    answer = client.create(**change)
    assert answer.status == 201, answer.text


BASIC = {"type": "basic", "username": "ada", "password": "hunter2"}
KNOWN_EVENT = "must be an event name that GET /v1/event-types lists"


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"name": None}, {"/name": "is required"}),
        ({"name": ""}, {"/name": "must not be empty"}),
        ({"name": "ü" * 81}, {"/name": "must have at most 80 characters, has 81"}),
        ({"name": " HR"}, {"/name": "must not begin or end with white space"}),
        ({"name": "   "}, {"/name": "must not begin or end with white space"}),
        ({"name": "H\x00R"}, {"/name": "must not contain control characters or line breaks"}),
        ({"name": "H\nR"}, {"/name": "must not contain control characters or line breaks"}),
        *(
            ({field: text}, {f"/{field}": HIDDEN_RULE})
            for field in ("name", "description")
            for text in (
                "HR\u202emoc.elpmaxe",
                "H\u200bR",
                "\ufeffHR",
                "H\u00adR",
                "\u2066HR\u2069",
                "\u3164",
                "H\U000e0041R",
            )
        ),
        *(
            ({"name": text}, {"/name": "must contain a visible character"})
            for text in ("\u200d", "\ufe0f\u2800", "\u200c\ufe0f \u200d")
        ),
        *(
            ({field: text}, {f"/{field}": IDLE_RULE})
            for field in ("name", "description")
            for text in (
                "H\u200dR",
                "H\u200cR",
                "HR\u200d",
                "\u200cHR",
                "H\ufe0fR",
                "HR\ufe00",
                "HR 1\ufe0f",
                "HR +\ufe0f",
                "\ufe0fHR",
                "نمی\u200c",  # at the end of a Persian word
                "نمی\u200c\u200cخو\u0627\u0647م",
                "नम \u200c मन",
                "👩\u200dHR",
                "👩\u200d\u200d💻",
                "❤\ufe0f\ufe0f",
                "Γ\u200dΔ",
            )
        ),
        ({"name": 7}, {"/name": "must be text, not a number"}),
        ({"name": ["HR"]}, {"/name": "must be text, not a list"}),
        ({"name": {}}, {"/name": "must be text, not an object"}),
        ({"name": True}, {"/name": "must be text, not true or false"}),
        ({"description": "x" * 141}, {"/description": "must have at most 140 characters, has 141"}),
        (
            {"description": "a\x07"},
            {"/description": "must not contain control characters other than line breaks"},
        ),
        ({"targetUrl": None}, {"/targetUrl": "is required"}),
        ({"targetUrl": "http://hooks.example.com/"}, {"/targetUrl": "must start with https://"}),
        ({"events": None}, {"/events": "is required"}),
        ({"events": []}, {"/events": "must not be empty"}),
        ({"events": "CI_STATS"}, {"/events": "must be a list, not text"}),
        (
            {"events": ["CI_STATS", "NO_SUCH", 7]},
            {"/events/1": KNOWN_EVENT, "/events/2": "must be text, not a number"},
        ),
        ({"events": ["CI_STATS", "CI_STATS"]}, {"/events": "must not name CI_STATS twice"}),
        ({"events": ["ci_stats"]}, {"/events/0": KNOWN_EVENT}),
        ({"status": "retired"}, {"/status": "must be 'active', 'paused' or 'inactive'"}),
        ({"status": 1}, {"/status": "must be 'active', 'paused' or 'inactive'"}),
        ({"ordered": "yes"}, {"/ordered": "must be true or false, not text"}),
        ({"batchSchedule": {}}, {"/batchSchedule": SCHEDULE_RULE}),
        ({"batchSchedule": {"everyMinutes": 60, "timeZone": "UTC"}}, {"/batchSchedule": SCHEDULE_RULE}),
        ({"batchSchedule": {"dailyAt": ["02:00"]}}, {"/batchSchedule": SCHEDULE_RULE}),
        ({"batchSchedule": {"everyMinutes": 4}}, {"/batchSchedule/everyMinutes": PERIOD_RULE}),
        ({"batchSchedule": {"everyMinutes": 1441}}, {"/batchSchedule/everyMinutes": PERIOD_RULE}),
        ({"batchSchedule": {"everyMinutes": 7.5}}, {"/batchSchedule/everyMinutes": "must be a whole number"}),
        (
            {"batchSchedule": {"everyMinutes": "5"}},
            {"/batchSchedule/everyMinutes": "must be a whole number"},
        ),
        (
            {"batchSchedule": {"dailyAt": ["2:00", "24:00", "14:30"], "timeZone": "Europe/Atlantis"}},
            {
                "/batchSchedule/dailyAt/0": "must be a time of day such as 02:00 or 14:30",
                "/batchSchedule/dailyAt/1": "must be a time of day such as 02:00 or 14:30",
                "/batchSchedule/timeZone": (
                    "must be a time zone of the IANA database, such as Europe/Rome or UTC"
                ),
            },
        ),
        (
            {"batchSchedule": {"dailyAt": ["02:00", "02:00"], "timeZone": "UTC"}},
            {"/batchSchedule/dailyAt": "must not name 02:00 twice"},
        ),
        (
            {"batchSchedule": {"dailyAt": [f"00:{each:02d}" for each in range(25)], "timeZone": "UTC"}},
            {"/batchSchedule/dailyAt": "must have at most 24 entries, has 25"},
        ),
        ({"batchSchedule": "daily"}, {"/batchSchedule": "must be an object, not text"}),
        ({"headers": ["x"]}, {"/headers": "must be an object, not a list"}),
        ({"headers": {"x": 1}}, {"/headers/x": "must be text, not a number"}),
        (
            {"headers": {f"x-{number}": "v" for number in range(11)}},
            {"/headers": "must have at most 10 entries, has 11"},
        ),
        (
            {"headers": {"X-A": "1", "x-a": "2"}},
            {"/headers/x-a": "must not be given twice, in upper or lower case"},
        ),
        (
            {"headers": {"x a": "1", "good": "v", "a/b~c": "1", "Host": "v"}},
            {
                "/headers/x a": NAME_RULE,
                "/headers/a~1b~0c": NAME_RULE,
                "/headers/Host": "must not be set here: the system or the connection sets it",
            },
        ),
        (
            {"headers": {"": "v"}},
            {"/headers/": NAME_RULE},
        ),
        *(
            (
                {"headers": {name: "v"}},
                {f"/headers/{name}": "must not be set here: the system or the connection sets it"},
            )
            for name in (
                "Host",
                "Webhook-Signature",
                "authorization",
                "Content-Length",
                "Proxy-Authorization",
            )
        ),
        *(
            (
                {"headers": {"x": value}},
                {"/headers/x": VALUE_RULE},
            )
            for value in ("", " a", "a\r\nb: c", "ü", "v" * 1025)
        ),
        ({"authentication": None}, {"/authentication": "is required"}),
        ({"authentication": "none"}, {"/authentication": "must be an object, not text"}),
        ({"authentication": {}}, {"/authentication/type": "is required"}),
        (
            {"authentication": {"type": "bearer"}},
            {"/authentication/type": "must be one of 'none', 'basic', 'signature'"},
        ),
        (
            {"authentication": {"type": 1}},
            {"/authentication/type": "must be one of 'none', 'basic', 'signature'"},
        ),
        (
            {"authentication": {"type": "none", "password": "hunter2"}},
            {"/authentication/password": "is not a field that this call takes"},
        ),
        (
            {"authentication": {"type": "signature", "secret": "hunter2"}},
            {"/authentication/secret": "is not a field that this call takes"},
        ),
        (
            {"authentication": {"type": "basic"}},
            {"/authentication/username": "is required", "/authentication/password": "is required"},
        ),
        (
            {"authentication": {**BASIC, "username": "a:b"}},
            {
                "/authentication/username": "must not contain a colon, "
                "which ends the user name in basic authentication"
            },
        ),
        ({"authentication": {**BASIC, "username": ""}}, {"/authentication/username": "must not be empty"}),
        (
            {"authentication": {**BASIC, "username": "u" * 256}},
            {"/authentication/username": "must have at most 255 characters, has 256"},
        ),
        ({"authentication": {**BASIC, "password": ""}}, {"/authentication/password": "must not be empty"}),
        (
            {"authentication": {**BASIC, "password": "hunter2\r\n"}},
            {"/authentication/password": "must not contain control characters or line breaks"},
        ),
        (
            {"authentication": {**BASIC, "password": ["hunter2"]}},
            {"/authentication/password": "must be text, not a list"},
        ),
        ({"retention": 7}, {"/retention": "is not a field that this call takes"}),
        ({"target_url": "https://x.example"}, {"/target_url": "is not a field that this call takes"}),
        ({"a/b~c": 1}, {"/a~1b~0c": "is not a field that this call takes"}),
        (
            {"name": 1, "status": "on"},
            {
                "/name": "must be text, not a number",
                "/status": "must be 'active', 'paused' or 'inactive'",
            },
        ),
    ],
    ids=str,
)
def test_each_bad_field_is_named_with_its_rule(
    client: AdminClient, change: dict[str, Any], errors: dict[str, str]
) -> None:
    answer = client.create(**change)
    assert answer.status == 422, answer.text
    assert answer.errors == errors
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.body["type"], answer.body["status"]) == ("urn:lms-webhooks:problem:invalid-fields", 422)
    assert "hunter2" not in answer.text
    assert client.store.read_account("1010") == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "https://user:hunter2@hooks.example.com/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://localhost/",
        "https://hooks.example.com/" + "a" * 2048,
    ],
)
def test_a_target_that_no_delivery_may_reach_is_refused_at_once(client: AdminClient, url: str) -> None:
    answer = client.create(targetUrl=url)
    assert list(answer.errors) == ["/targetUrl"]
    assert "hunter2" not in answer.text


def test_the_local_stack_allows_this_machine() -> None:
    with admin_client("local-webhooks", loopback_targets_allowed=True) as client:
        assert client.create(targetUrl="http://127.0.0.1:8080/hooks").status == 201


def test_a_thousand_bad_fields_are_not_all_told(client: AdminClient) -> None:
    assert len(client.create(events=["NO_SUCH"] * 1000).body["errors"]) == 20


##### What a call does not read

OPERATIONS = operations()
IDS = {"webhookId": "wh_" + "a" * 22, "deliveryId": "MTc5MzcwNzIwMDAwMCNuZXZlcg", "subscriptionId": "ns_1"}
BODILESS = [operation for operation in OPERATIONS if operation.body is None]


def name_of(operation: Operation) -> str:
    return operation.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_a_parameter_that_a_call_does_not_know_is_refused(client: AdminClient, operation: Operation) -> None:
    """Whether the thing that it is about exists or not: that is asked afterwards."""
    answer = client.call(operation.method, operation.path_with("limit_=1&foo=", **IDS), operation.body)
    assert (answer.status, answer.body["type"]) == (400, "urn:lms-webhooks:problem:invalid-parameters")
    assert answer.body["errors"] == [
        {"parameter": name, "detail": "is not a parameter that this call takes"} for name in ("limit_", "foo")
    ]
    reader = {**ADMIN_CLAIMS, "cognito:groups": "[]"}
    assert client.call(operation.method, operation.path(**IDS) + "?foo=1", claims=reader).status == 403


@pytest.mark.parametrize("operation", BODILESS, ids=name_of)
def test_a_body_that_a_call_does_not_take_is_refused(client: AdminClient, operation: Operation) -> None:
    path = operation.path(**IDS)
    taken = client.call(operation.method, path).status
    assert taken in (200, 404)
    assert client.call(operation.method, path, {}).status == taken
    answer = client.call(operation.method, path, {"overlapHours": 72, "foo": 1})
    assert answer.status == 422
    assert answer.errors == dict.fromkeys(("/overlapHours", "/foo"), "is not a field that this call takes")
    assert client.call(operation.method, path, [1]).errors == {"": "must be an object, not a list"}
    for text, is_base64 in (("overlap=72", False), ("overlap=72", True), (" ", False)):
        assert client.call(operation.method, path, text=text, is_base64=is_base64).status == 400
    assert client.call(operation.method, path, text="a=1", content_type="text/plain").status == 415
    assert client.call(operation.method, path, text=" " * 65_537).status == 413


def test_what_was_refused_for_its_body_was_not_done(client: AdminClient) -> None:
    """A client that believes in overlapHours would tell its receivers too late."""
    created = client.create(authentication={"type": "signature"})
    path = f"{created.headers['Location']}/signature"
    assert client.call("POST", path, {"overlapHours": 72}).status == 422
    assert client.call("GET", created.headers["Location"]).headers["ETag"] == created.headers["ETag"]
    assert client.call("POST", path, {}).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"name": "HR"} extra',
        "name=HR",
        "\ud800",
        '{"name": "\\ud800"}',
        "[" * 60_000,
        '{"name": NaN}',
    ],
    ids=["empty", "cut", "trailing", "form", "surrogate", "escaped surrogate", "deep", "nan"],
)
def test_what_is_not_json_is_unreadable(client: AdminClient, text: str) -> None:
    answer = client.call("POST", "/v1/webhooks", text=text)
    assert answer.body["detail"].startswith("The body is not JSON: ")
    assert (answer.status, answer.body["type"]) == (400, "urn:lms-webhooks:problem:unreadable-body")


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ('{"name": "HR", "status": "paused", "name": "Payroll", "status": "active"}', ["/name", "/status"]),
        ('{"name": "HR", "n\\u0061me": "HR"}', ["/name"]),
        ('{"authentication": {"type": "none", "type": "signature"}}', ["/authentication/type"]),
        ('{"headers": {"a/b~c": "1", "a/b~c": "2"}}', ["/headers/a~1b~0c"]),
        ('{"events": [{}, {"": 1, "": ' + "9" * 4300 + "}]}", ["/events/1/"]),
        ("{" + ", ".join(f'"f{n}": 1, "f{n}": 1' for n in range(30)) + "}", [f"/f{n}" for n in range(20)]),
    ],
    ids=["two", "escaped", "nested", "pointer", "long number", "many"],
)
def test_a_field_that_is_given_twice_is_refused(client: AdminClient, text: str, pointers: list[str]) -> None:
    """Which of the two is meant nobody knows; another reader on the way may take the other."""
    answer = client.call("POST", "/v1/webhooks", text=text)
    assert (answer.status, answer.body["type"]) == (422, "urn:lms-webhooks:problem:invalid-fields")
    assert answer.errors == dict.fromkeys(pointers, "must not be given twice")
    assert client.store.read_account("1010") == []


def test_the_same_name_in_two_objects_is_not_given_twice(client: AdminClient) -> None:
    assert client.create(headers={"name": "1", "status": "2"}).status == 201


def test_a_body_that_is_missing_is_unreadable(client: AdminClient) -> None:
    assert client.call("POST", "/v1/webhooks").status == 400


@pytest.mark.parametrize("body", [[], [VALID], "text", 7, True])
def test_json_that_is_no_object_is_named(client: AdminClient, body: Any) -> None:
    answer = client.call("POST", "/v1/webhooks", body)
    assert answer.status == 422
    assert answer.errors[""].startswith("must be an object, not ")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=iso-8859-1",
        'application/json; profile=x; charset="utf-16"',
        "application/json; charset=",
    ],
)
def test_only_json_is_taken(client: AdminClient, content_type: str | None) -> None:
    answer = client.call("POST", "/v1/webhooks", VALID, content_type=content_type)
    assert (answer.status, answer.headers["Accept"]) == (415, "application/json")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'application/json;CHARSET="UTF-8"',
        "application/json; charset=utf8; profile=x",
        "Application/JSON",
    ],
)
def test_json_may_name_its_charset(client: AdminClient, content_type: str) -> None:
    assert client.call("POST", "/v1/webhooks", VALID, content_type=content_type).status == 201


def test_a_body_is_64_kib_at_most(client: AdminClient) -> None:
    valid = json.dumps(VALID)
    assert client.call("POST", "/v1/webhooks", text=valid.ljust(64 * 1024)).status == 201
    answer = client.call("POST", "/v1/webhooks", text=valid.ljust(64 * 1024 + 1))
    assert (answer.status, answer.body["detail"]) == (413, "A body has at most 65536 bytes.")


def test_a_base64_body_is_decoded(client: AdminClient) -> None:
    assert client.call("POST", "/v1/webhooks", VALID, is_base64=True).status == 201
    answer = client.call("POST", "/v1/webhooks", text="\ud800", is_base64=True)
    assert (answer.status, answer.body["type"]) == (400, "urn:lms-webhooks:problem:unreadable-body")


def test_the_sixth_webhook_is_a_conflict(client: AdminClient) -> None:
    assert {client.create().status for _ in range(5)} == {201}
    answer = client.create()
    assert (answer.status, answer.body["type"]) == (409, "urn:lms-webhooks:problem:too-many-webhooks")
    assert "at most 5" in answer.body["detail"]


def test_accounts_see_nothing_of_each_other(client: AdminClient) -> None:
    webhook_id = client.create().body["webhookId"]
    never_made = "wh_" + "a" * 22
    for method in ("GET", "DELETE"):
        others = client.call(method, f"/v1/webhooks/{webhook_id}", claims=OTHER_CLAIMS)
        nobodys = client.call(method, f"/v1/webhooks/{never_made}", claims=OTHER_CLAIMS)
        assert (others.status, others.body) == (nobodys.status, nobodys.body) == (404, nobodys.body)
    assert client.call("GET", "/v1/webhooks", claims=OTHER_CLAIMS).body == {"webhooks": []}
    assert client.call("GET", f"/v1/webhooks/{webhook_id}").status == 200


def test_a_reader_reads_and_changes_nothing(client: AdminClient) -> None:
    webhook_id = client.create().body["webhookId"]
    for path in ("/v1/event-types", "/v1/webhooks", f"/v1/webhooks/{webhook_id}"):
        assert client.call("GET", path, claims=READER_CLAIMS).status == 200
    one = f"/v1/webhooks/{webhook_id}"
    for method, path in (("POST", "/v1/webhooks"), ("PATCH", one), ("DELETE", one)):
        answer = client.call(method, path, VALID, claims=READER_CLAIMS)
        assert (answer.status, answer.body["type"]) == (403, "urn:lms-webhooks:problem:forbidden")
    assert len(client.store.read_account("1010")) == 1


@pytest.mark.parametrize("path", ["/v1/event-types", "/v1/webhooks", "/v1/webhooks/wh_1"])
@pytest.mark.parametrize(
    "claims", [{}, {"custom:account_id": "1010"}, {"cognito:groups": "[integration-admin]"}]
)
def test_a_token_without_account_or_role_gets_nothing(
    client: AdminClient, path: str, claims: dict[str, object]
) -> None:
    assert client.call("GET", path, claims=claims).status == 403


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/webhooks/", "/v2/webhooks", "/v1/webhooks/wh_1/nothing"])
def test_an_unknown_path_is_a_problem_too(client: AdminClient, path: str) -> None:
    answer = client.call("GET", path)
    assert (answer.status, answer.body["type"]) == (404, "urn:lms-webhooks:problem:no-such-path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/event-types", "GET"),
        ("DELETE", "/v1/webhooks", "GET, POST"),
        ("HEAD", "/v1/webhooks", "GET, POST"),
        ("PUT", "/v1/webhooks/wh_1", "GET, PATCH, DELETE"),
        ("GET", "/v1/webhooks/test", "POST"),
        ("QUERY", "/v1/webhooks/test", "POST"),
        ("TRACE", "/v1/webhooks/wh_1/replay", "GET, POST, DELETE"),
    ],
)
def test_a_method_that_a_path_lacks_is_answered_with_those_it_has(
    client: AdminClient, method: str, path: str, allowed: str
) -> None:
    answer = client.call(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("webhook_id", ["wh_%00", "wh_1%2F..", "ACCOUNT", "x" * 3000, "wh_<script>", "ü"])
def test_an_id_that_is_none_is_not_found(client: AdminClient, webhook_id: str) -> None:
    assert client.call("GET", f"/v1/webhooks/{webhook_id}").status == 404


def test_a_fault_of_ours_tells_nothing_but_a_request_id(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("table 7 is on fire")

    monkeypatch.setattr(client.store, "read_account", fail)
    answer = client.call("GET", "/v1/webhooks")
    assert (answer.status, answer.body["type"]) == (500, "urn:lms-webhooks:problem:internal-error")
    assert "request-7" in answer.body["detail"]
    assert "fire" not in answer.text


def test_every_change_leaves_one_audit_line_without_secrets(
    client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "lms_webhooks.admin.audit.logger",
        SimpleNamespace(info=lambda message, extra: lines.append({"message": message, **extra})),
    )
    webhook_id = client.create(authentication=BASIC).body["webhookId"]
    assert client.create(name="").status == 422
    assert client.call("GET", "/v1/webhooks").status == 200
    client.call("PATCH", f"/v1/webhooks/{webhook_id}", {"authentication": BASIC, "name": "Payroll"})
    client.call("DELETE", f"/v1/webhooks/{webhook_id}")
    client.call("DELETE", f"/v1/webhooks/{webhook_id}")
    about = {
        "message": "audit",
        "accountId": "1010",
        "webhookId": webhook_id,
        "user": "ada@example.com",
        "sub": "5f1d-ada",
    }
    assert lines == [
        {
            **about,
            "action": "webhook.create",
            "changedFields": ["authentication", "events", "name", "status", "targetUrl"],
        },
        {**about, "action": "webhook.change", "changedFields": ["authentication", "name"]},
        {**about, "action": "webhook.delete", "changedFields": []},
    ]
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/openapi.json", 200),
        ("GET", "/console", 200),
        ("GET", "/console/dom.js", 200),
        ("GET", "/v1/webhooks", 200),
        ("POST", "/v1/webhooks", 422),
        ("GET", "/v1/webhooks/wh_1", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/webhooks", 405),
    ],
)
def test_every_answer_is_for_https_alone_and_of_the_type_that_it_says(
    client: AdminClient, method: str, path: str, status: int
) -> None:
    answer = client.call(method, path, {} if method == "POST" else None)
    assert answer.status == status
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/v1/webhooks", "/v1/event-types", "/openapi.json", "/console", "/console/dom.js"]
)
def test_a_path_that_goes_on_is_another(client: AdminClient, path: str) -> None:
    assert client.call("GET", path).status == 200
    for more in ("\n", "\r\n", "\x00", " "):
        assert client.call("GET", path + more).body["type"] == "urn:lms-webhooks:problem:no-such-path"

"""The documents say what the code says: commands, parameters, settings, alarms, metrics, delays, examples.

Who adds one of these without a word about it fails here, and so does a link that leads nowhere.
"""

import json
import re
import subprocess
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from lms_webhooks import settings
from lms_webhooks.admin import sample_sends
from lms_webhooks.admin.authentication import SECRET_OVERLAP
from lms_webhooks.admin.inputs import WebhookInput
from lms_webhooks.dispatcher import dispatcher
from lms_webhooks.drainer import drain_run
from lms_webhooks.drainer.drainer import LEASE_SECONDS
from lms_webhooks.model import retry
from lms_webhooks.model.attempts import ErrorClass, ResponseClass, classify
from lms_webhooks.model.events import Event
from lms_webhooks.observability import Metric
from lms_webhooks.sending.sockets import MAX_ADDRESSES_TRIED
from lms_webhooks.sending.webhook_request import Credentials, build_request
from lms_webhooks.stores.backlog import PURGE_DELAY_SECONDS
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS
from lms_webhooks.stores.webhooks import TOMBSTONE_DAYS
from local.receiver import Received, report
from tests.contract.template import (
    ALARMS,
    FUNCTIONS,
    PARAMETERS,
    QUEUES,
    REPOSITORY,
    RESOURCES,
    TEMPLATE,
    event_sources,
    most_at_once,
    of_type,
)
from tests.contract.transform import deployed, deployed_gradually
from tools.openapi import TEXTS as TEXTS_OF_THE_API

README = REPOSITORY / "README.md"
RECEIVERS = REPOSITORY / "docs" / "receivers.md"
ADMIN_API = REPOSITORY / "docs" / "admin-api.md"
DEPLOY = REPOSITORY / "docs" / "deploy.md"
CONFIGURATION = REPOSITORY / "docs" / "configuration.md"
RUNBOOK = REPOSITORY / "docs" / "runbook.md"
RECOVERY = REPOSITORY / "docs" / "recovery.md"
PERSONAL_DATA = REPOSITORY / "docs" / "personal-data.md"
OPERATORS_PAGES = (DEPLOY, CONFIGURATION, RUNBOOK, RECOVERY, PERSONAL_DATA)
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
CHANGELOG = REPOSITORY / "CHANGELOG.md"
SECURITY = REPOSITORY / "docs" / "security.md"
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").iterdir())
DOCUMENTS = sorted(
    path
    for path in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
    if "node_modules" not in path.parts
)
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
MAX_LINES_WITHOUT_CONTENTS = 100
EXAMPLES = sorted(
    path for path in (REPOSITORY / "docs" / "receivers").iterdir() if path.suffix in (".py", ".js")
)

_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OF_FOLDER = {str(properties["CodeUri"]).rpartition("/")[2] for properties in FUNCTIONS.values()}


def section(document: Path, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    text = document.read_text()
    assert f"\n## {heading}\n" in text, f"{document.name} has no section {heading!r}"
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(document: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = [line for line in section(document, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(document: Path, heading: str) -> list[str]:
    """The first cell of each row, which is a name in backquotes."""
    return [row[0].strip("`") for row in rows(document, heading)]


def fenced(document: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that a heading has on the pages of a code host."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# What there is to call, to set and to watch


def test_contributing_has_every_command_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    with_help = re.findall(r"^([a-z-]+):.*?## ", makefile, re.MULTILINE)
    phony = [name for line in re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE) for name in line.split()]
    assert sorted(with_help) == sorted(phony), "a command without help, or one that is no command"
    assert sorted(named(CONTRIBUTING, "Commands")) == sorted(f"make {name}" for name in with_help)


def test_every_parameter_is_explained_with_its_default() -> None:
    explained = {row[0].strip("`"): row[1].strip("`") for row in rows(CONFIGURATION, "Parameters")}
    assert explained == {name: str(each["Default"]) or "(empty)" for name, each in PARAMETERS.items()}


def test_every_variable_of_a_function_is_explained() -> None:
    functions_of: dict[str, set[str]] = {}
    for folder in _OF_FOLDER:
        settings_type = getattr(settings, folder.title().replace("_", "") + "Settings")
        for field in fields(settings_type):
            functions_of.setdefault(field.name.upper(), set()).add(folder)
    explained = {
        variable.strip("`"): set(functions.split(", ")) if functions != "all four" else _OF_FOLDER
        for variable, functions, _ in rows(CONFIGURATION, "Environment variables")
    }
    assert explained == functions_of


def test_every_alarm_is_explained() -> None:
    assert sorted(named(RUNBOOK, "Alarms")) == sorted(ALARMS)


def test_the_runbook_has_commands_for_every_alarm() -> None:
    parts = section(RUNBOOK, "Alarm procedures").split("\n### ")[1:]
    assert [part.split("\n")[0] for part in parts] == named(RUNBOOK, "Alarms")
    links = dict(zip(named(RUNBOOK, "Alarms"), rows(RUNBOOK, "Alarms"), strict=True))
    for alarm, part in zip(links, parts, strict=True):
        assert "\n```bash\n" in part, alarm
        assert f"](#{slug(alarm)})" in links[alarm][2], alarm


def test_the_commands_of_the_runbook_name_resources_of_the_template() -> None:
    text = "".join(block for page in OPERATORS_PAGES for block in fenced(page, "bash"))
    named_there = re.findall(r'"\$\((?:resource|arn) (\w+)\)"', text)
    named_there += re.findall(r"^(?:faults|sum) (\w+)", text, re.MULTILINE)
    assert len(named_there) > 20
    assert set(named_there) <= set(RESOURCES)
    assert set(re.findall(r"QUEUE=(\w+)", text)) <= set(QUEUES)
    assert set(re.findall(r"OutputKey==`(\w+)`", text)) <= set(TEMPLATE["Outputs"])


@pytest.mark.parametrize(
    "block",
    [block for page in OPERATORS_PAGES for block in fenced(page, "bash")],
    ids=lambda block: block.split("\n")[0][:40],
)
def test_the_commands_of_the_runbook_can_be_read(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_each_page_with_commands_defines_the_same_helpers() -> None:
    definitions = {fenced(page, "bash")[0] for page in (DEPLOY, RUNBOOK, RECOVERY)}
    assert len(definitions) == 1
    assert "resource()" in definitions.pop()


def test_what_a_redrive_takes_is_what_the_makefile_hands_on() -> None:
    recipe = (REPOSITORY / "Makefile").read_text().split("\nredrive:")[1].split("\n\n")[0].partition("\n")[2]
    tables = section(RECOVERY, "Which procedure to use").split("\n\n")
    (table,) = [each for each in tables if each.startswith("| variable |")]
    explained = re.findall(r"^\| `([A-Z_]+)", table, re.MULTILINE)
    assert sorted(explained) == sorted(set(re.findall(r"\$[$(]([A-Z_]+)", recipe)) - {"BIN"})


def test_every_metric_is_explained() -> None:
    assert named(RUNBOOK, "Metrics") == list(Metric)


def test_every_action_of_the_audit_log_is_explained() -> None:
    done = {
        action
        for path in (REPOSITORY / "layers" / "core" / "lms_webhooks" / "admin").glob("*.py")
        for action in re.findall(r"""\baudit\(\s*caller,\s*"([a-z.-]+)\"""", path.read_text())
    }
    assert len(done) > 5
    explained = re.findall(r"^\| `([a-z.-]+)` \|", section(RUNBOOK, "Audit log"), re.MULTILINE)
    assert sorted(explained) == sorted(done)


def test_people_are_told_the_times_that_hold() -> None:
    """Of what is stored of them: the parameters' defaults, and what the queues and the tombstones say."""
    text = PERSONAL_DATA.read_text()
    for parameter in ("DeliveryRetentionDays", "BacklogRetentionDays", "LogRetentionDays"):
        assert re.search(rf"`{parameter}`[^|]*\({PARAMETERS[parameter]['Default']}\)", text), parameter
    assert f"| {TOMBSTONE_DAYS} days |" in text
    assert max(queue["MessageRetentionPeriod"] for queue in QUEUES.values()) == 14 * 86_400
    assert "14 days" in text


def test_every_error_class_is_named() -> None:
    sentence = next(line for line in section(RUNBOOK, "Logs").splitlines() if line.startswith("`errorClass`"))
    assert re.findall(r"`([a-z-]+)`", sentence) == list(ErrorClass)


# What receivers are promised


def test_the_delays_are_the_ones_that_receivers_are_told() -> None:
    text = section(RECEIVERS, "How responses are handled")
    delays = [f"{retry.backoff_seconds(failures, jitter=0):.0f}" for failures in range(1, 9)]
    assert f"{', '.join(delays)}, ... seconds" in text
    assert f"{retry.JITTER:.0%}".replace("%", " %") in text
    units = ((3600, "h"), (60, "min"))
    worded = [
        next(f"{seconds // size} {unit}" for size, unit in units if seconds >= size)
        for seconds in retry.REJECTION_DELAYS_SECONDS
    ]
    assert f"{', '.join(worded)}. If it is rejected once more" in text
    assert f"{PARAMETERS['BacklogRetentionDays']['Default']} days after it was accepted" in text


def test_each_status_code_is_in_the_class_that_receivers_are_told() -> None:
    told = {
        int(code): ResponseClass.ENDPOINT
        for answer, what, *_ in rows(RECEIVERS, "How responses are handled")
        for code in re.findall(r"\b\d{3}\b", answer)
        if "**The endpoint fails.**" in what
    }
    told |= {410: ResponseClass.GONE}
    for code in range(200, 600):
        if code < 300:
            expected = ResponseClass.DELIVERED
        elif 400 <= code < 500:
            expected = told.get(code, ResponseClass.EVENT)
        else:
            expected = ResponseClass.ENDPOINT
        assert classify(code) is expected, code
    assert classify(None) is ResponseClass.ENDPOINT


def sample_request() -> tuple[dict[str, str], bytes]:
    """Headers and body of the POST that receivers are shown."""
    (text,) = fenced(RECEIVERS, "http")
    head, _, body = text.rstrip("\n").partition("\n\n")
    lines = head.splitlines()[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body.encode()


def sample_secret() -> str:
    """The secret that signed it, as the page for receivers says."""
    (secret,) = re.findall(r"signed with `(whsec_[^`]+)`", RECEIVERS.read_text())
    return str(secret)


def test_the_readme_shows_a_request_as_make_listen_prints_it() -> None:
    (shown,) = fenced(README, "text")
    headers: dict[str, str] = dict(re.findall(r"^  ([a-z-]+): (.+)$", shown, re.MULTILINE))
    body = shown.splitlines()[-1].strip().encode()
    assert headers["content-length"] == str(len(body))
    assert shown == report(Received("/", headers, body, 0, None), is_checked=True) + "\n"
    assert headers.keys() == sample_request()[0].keys()
    signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signed = standardwebhooks.Webhook(sample_secret()).sign(headers["webhook-id"], signed_at, body.decode())
    assert headers["webhook-signature"] == signed


def test_the_request_that_is_shown_is_the_one_that_is_sent() -> None:
    headers, body = sample_request()
    (shown,) = json.loads(body)["events"]
    event = Event(
        account_id="1010",
        event_id=shown["eventId"],
        event_name=shown["eventName"],
        occurred_at_ms=shown["timestamp"],
        accepted_at_ms=shown["timestamp"],
        text=json.dumps(shown, separators=(",", ":")),
    )
    message = build_request(
        "https://example.com/hooks",
        [event],
        webhook_id="wh_1",
        credentials=Credentials(signing_secrets=(sample_secret(),)),
        headers={},
        timestamp_seconds=int(headers["webhook-timestamp"]),
    )
    assert message.body == body
    of_the_sender = {"host", "content-length", "accept-encoding"}
    assert {name: value for name, value in headers.items() if name not in of_the_sender} == message.headers
    assert headers["content-length"] == str(len(body))
    signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    verifier = standardwebhooks.Webhook(sample_secret())
    assert headers["webhook-signature"] == verifier.sign(headers["webhook-id"], signed_at, body.decode())


# What receivers are shown


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.name)
def test_a_receiver_is_shown_as_the_file_that_is_tested(file: Path) -> None:
    language = {".py": "python", ".js": "js"}[file.suffix]
    link = f"[{file.name}](receivers/{file.name})"
    assert f"\n{link}\n\n```{language}\n{file.read_text()}```\n" in RECEIVERS.read_text()


@pytest.mark.parametrize(
    ("name", "password", "is_taken"),
    [("zoë", "pässwörd: 1", True), ("zoë", "pässwörd: 2", False), ("zoe", "pässwörd: 1", False)],
)
def test_the_check_of_basic_authentication_that_is_shown_is_right(
    name: str, password: str, is_taken: bool
) -> None:
    message = build_request(
        "https://example.com/hooks",
        [Event("1010", "first", "CI_STATS", 0, 0, '{"eventId":"first"}')],
        webhook_id="wh_1",
        credentials=Credentials(basic=("zoë", "pässwörd: 1")),
        headers={},
        timestamp_seconds=1,
    )
    (example,) = [block for block in fenced(RECEIVERS, "python") if "is_ours" in block]
    namespace: dict[str, Any] = {}
    exec(example, namespace)  # noqa: S102  # a file of this repository
    assert namespace["is_ours"](message.headers, name, password) is is_taken
    assert namespace["is_ours"]({}, name, password) is False


def test_the_forms_of_a_timestamp_are_told_apart_as_receivers_are_told() -> None:
    """In seconds the last moment that is taken is below the bound, in milliseconds the first one above it."""
    (bound,) = re.findall(r"a number below ([0-9,]+) is in seconds", section(RECEIVERS, "Order"))
    last = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    first_ms = datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000
    assert last < int(bound.replace(",", "")) < first_ms


def test_receivers_are_told_how_long_to_expect_an_event_and_an_old_secret() -> None:
    tried, kept = (
        int(PARAMETERS[name]["Default"]) for name in ("BacklogRetentionDays", "DeliveryRetentionDays")
    )
    days = re.findall(r"(\d+) days", section(RECEIVERS, "Duplicates"))
    assert [int(each) for each in days] == [tried + 1, tried + kept + 3]
    assert f"({kept} days)" in section(RECEIVERS, "Tests, redeliveries, and replays")
    overlap = f"{SECRET_OVERLAP.total_seconds() / 3600:.0f} hours"
    assert set(re.findall(r"\d+ hours", section(RECEIVERS, "Rotate a signing secret"))) == {overlap}
    assert "its `webhook-id` starts with `test_`" in section(RECEIVERS, "Checklist")


def test_admins_are_told_how_long_a_request_that_had_started_may_take() -> None:
    """It may take long to open a connection, and then to send its body: the deadline of all ends both."""
    most = max(
        each.total_seconds for each in (dispatcher.TIMEOUTS, drain_run.TIMEOUTS, sample_sends.TIMEOUTS)
    )
    told = section(ADMIN_API, "Authentication and conventions")
    documents = told, TEXTS_OF_THE_API["delete_webhook"].description, section(CHANGELOG, "[Unreleased]")
    for text in documents:
        assert re.findall(r"may still arrive, within (\d+)\s+seconds", text) == [str(most)], text
    assert f"So {most} seconds after the response nothing" in told


def test_it_is_said_how_many_connections_one_counted_act_may_open() -> None:
    addresses = f"up to {MAX_ADDRESSES_TRIED}"
    conventions = section(ADMIN_API, "Authentication and conventions")
    assert f"{addresses} are tried until one of them accepts" in conventions
    told = section(SECURITY, "Threats and mitigations")
    assert f"to {addresses} addresses of its host name" in told
    assert f"from {retry.FIRST_DELAY_SECONDS} to {retry.MAX_BACKOFF_SECONDS} seconds" in told


def test_operators_are_told_when_a_deleted_webhook_is_purged() -> None:
    told = PERSONAL_DATA.read_text()
    assert f"{PURGE_DELAY_SECONDS} seconds after the deletion" in told
    assert f"from {LEASE_SECONDS} seconds on" in told
    assert f"{PURGE_DELAY_SECONDS} seconds after the deletion" in section(CHANGELOG, "[Unreleased]")


# What is shown can be done


@pytest.mark.parametrize("document", [README, RECEIVERS], ids=lambda path: path.name)
def test_the_api_takes_the_webhook_that_is_registered_to_try_it(document: Path) -> None:
    (command,) = [block for block in fenced(document, "sh") if "application/json" in block]
    body = command.partition("-d '")[2].rpartition("'")[0]
    WebhookInput.model_validate(json.loads(body), context={"loopback_allowed": True})


# The pages themselves


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(_FENCED.sub("", document.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target.is_relative_to(REPOSITORY), link
        if anchor:
            headings = _HEADING.findall(_FENCED.sub("", target.read_text()))
            assert anchor in {slug(heading) for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_is_in_the_readme_relies_on_the_concepts_and_lists_its_headings(page: Path) -> None:
    text = page.read_text()
    assert f"(docs/{page.name})" in section(README, "Where to read on")
    assert page.name == "concepts.md" or "(concepts.md)" in text
    if text.count("\n") > MAX_LINES_WITHOUT_CONTENTS:
        contents = text.partition("\n## ")[0]
        headings = re.findall(r"^## (.+)$", _FENCED.sub("", text), re.MULTILINE)
        assert [each for each in headings if f"](#{slug(each)})" not in contents] == []


@pytest.mark.parametrize("number", range(1, len(DECISIONS) + 1))
def test_decisions_are_numbered_dated_and_say_how_to_go_back(number: int) -> None:
    page = DECISIONS[number - 1]
    assert re.fullmatch(rf"{number:04d}-[a-z0-9-]+\.md", page.name)
    text = page.read_text()
    assert re.match(rf"# {number}\. .+\n\n\d{{4}}-\d\d-\d\d, ", text)
    assert _HEADING.findall(text)[1:] == ["Context", "Decision", "Consequences", "How to revert"]


def test_the_quotas_are_reckoned_with_the_numbers_of_the_template() -> None:
    told = {row[0]: row[2] for row in rows(CONFIGURATION, "Quotas")}
    maxima = [source["ScalingConfig"]["MaximumConcurrency"] for _, _, source in event_sources()]
    at_once = sum(map(most_at_once, maxima))
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    calls = stage["DefaultRouteSettings"]["ThrottlingRateLimit"]
    assert told["Lambda: concurrent executions"] == (
        f"{at_once + 1 + round(calls * (0.1 + MAX_AGE_SECONDS))} at most"
    )
    assert told["API Gateway: calls"] == f"{calls}/s"


def test_the_quotas_of_cloudformation_are_counted_after_the_transform() -> None:
    told = {row[0]: (row[2], row[3]) for row in rows(CONFIGURATION, "Quotas")}
    made, made_gradually = len(deployed()), len(deployed_gradually())
    assert told["CloudFormation: resources, parameters, outputs"] == (
        f"{made}, {len(PARAMETERS)}, {len(TEMPLATE['Outputs'])}",
        f"counted after SAM's transform, conditional ones too; {made_gradually} resources in prod",
    )
    size = (REPOSITORY / "template.yaml").stat().st_size
    assert told["CloudFormation: size of a template"][0] == f"some {5 * round(size / 5000)} KB"


def test_every_saved_query_is_explained() -> None:
    names = {
        each["Name"]["Fn::Sub"].partition("/")[2] for each in of_type("AWS::Logs::QueryDefinition").values()
    }
    assert names == {row[0] for row in rows(RUNBOOK, "Saved queries")}

"""The console's files: served as they are, with a policy that lets nothing else in; and the words in them."""

import ast
import dataclasses
import gzip
import inspect
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lms_webhooks.admin import (
    authentication,
    console_files,
    inputs,
    problems,
    replays,
    retries,
    subscriptions,
)
from lms_webhooks.admin.request_body import _RULES
from lms_webhooks.model.attempts import ErrorClass, TlsFault, describe_tls_fault
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.sending import targets
from lms_webhooks.stores.replays import ReplayState
from tests.unit.admin_client import AdminClient, admin_client, admin_settings

FILES = {path.name: path.read_text() for path in sorted(console_files.FOLDER.iterdir())}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
LANGUAGES = ("en.js", "it.js")
MAX_BYTES, MAX_BYTES_COMPRESSED = 130_000, 45_000
"""Of all files that one language loads."""
_ENTRY = re.compile(r"^  '?([\w:.-]+)'?: '((?:[^'\\]|\\.)*)',$", re.MULTILINE)
_PLACE = re.compile(r"\{(\w+)\}")


@pytest.fixture(scope="module")
def client() -> Iterator[AdminClient]:
    with admin_client("console") as client:
        yield client


def table(language: str, name: str) -> dict[str, str]:
    """What a module of words exports under a name, line by line."""
    _, _, rest = FILES[language].partition(f"export const {name} = {{")
    lines = rest.partition("};")[0]
    found = _ENTRY.findall(lines)
    assert len(found) == len([line for line in lines.splitlines() if line.strip()]), f"{language}: {name}"
    keys = [key for key, _ in found]
    assert len(keys) == len(set(keys)), f"{language} has a key twice"
    return dict(found)


##### How they are served


def test_the_start_page_is_at_console(client: AdminClient) -> None:
    answer = client.call("GET", "/console", claims={})
    assert (answer.status, answer.text) == (200, FILES["index.html"])
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type_and_its_code(client: AdminClient, name: str) -> None:
    answer = client.call("GET", f"/console/{name}", claims={})
    assert answer.status == 200
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["Content-Type"].partition(";")[0] == types[name.rpartition(".")[2]]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if name.endswith((".html", ".svg")):
        assert answer.text == FILES[name]
        return
    code = [line.strip() for line in FILES[name].splitlines()]
    kept = [line for line in code if line and not re.match(r"//|/\*.*\*/$", line)]
    assert answer.text.replace("\n", "") == "".join(kept)
    # Where a line ended by itself, and behind a comment, it still does.
    ends = [line for line in kept if not re.fullmatch(r"(?!.*//).*[;{,(\[]", line)]
    assert answer.text.count("\n") == len(ends)
    assert all(f"{line}\n" in answer.text for line in ends)


def test_no_text_or_comment_has_several_lines() -> None:
    """What is served lacks indentation and lines of comment: nothing else may look like them."""
    for name, text in SCRIPTS.items():
        for number, line in enumerate(text.splitlines(), 1):
            assert line.count("`") % 2 == 0, f"{name}:{number}"
            assert not line.strip().startswith("/*") or line.endswith("*/"), f"{name}:{number}"


def test_nothing_loads_from_elsewhere_and_nothing_frames_it(client: AdminClient) -> None:
    policy = client.call("GET", "/console", claims={}).headers["Content-Security-Policy"]
    directives = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == directives["style-src"] == ["'self'"]
    assert directives["connect-src"] == ["'self'", "https://signin.example.com"]
    assert directives["frame-ancestors"] == directives["base-uri"] == directives["form-action"] == ["'none'"]
    assert "unsafe" not in policy


def test_an_issuer_of_one_s_own_may_be_called_instead() -> None:
    settings = dataclasses.replace(
        admin_settings(), sign_in_url="", oidc_issuer="https://id.example.com/realms/lms"
    )
    assert (
        "connect-src 'self' https://id.example.com;"
        in console_files.headers(settings)["Content-Security-Policy"]
    )
    config = json.loads(console_files.find("config.json", settings).text)
    assert config["issuer"] == "https://id.example.com/realms/lms"
    assert "signInUrl" not in config


@pytest.mark.parametrize("issuer", ["", "no url", "https://x;script-src *", "javascript://x"])
def test_a_setting_that_is_no_address_opens_nothing(issuer: str) -> None:
    settings = dataclasses.replace(admin_settings(), sign_in_url="", oidc_issuer=issuer)
    policy = console_files.headers(settings)["Content-Security-Policy"]
    assert "connect-src 'self';" in policy
    assert policy.count("script-src") == 1


def test_the_page_is_told_how_to_sign_in(client: AdminClient) -> None:
    answer = client.call("GET", "/console/config.json", claims={})
    assert answer.body == {
        "signInUrl": "https://signin.example.com",
        "clientId": "console-client",
        "accountClaim": "custom:account_id",
        "roleClaim": "cognito:groups",
        "adminRole": "integration-admin",
    }


def test_what_a_browser_has_is_not_sent_again(client: AdminClient) -> None:
    first = client.call("GET", "/console/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.call("GET", "/console/app.js", headers={"if-none-match": first.headers["ETag"]})
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", first.headers["ETag"])
    other = client.call("GET", "/console/dom.js", headers={"if-none-match": first.headers["ETag"]})
    assert (other.status, bool(other.text)) == (200, True)


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "..",
        "..%2Fconsole_files.py",
        "../console_files.py",
        "console",
        ".",
        "%2e%2e",
        "en",
        "console_files.py",
    ],
)
def test_what_is_no_file_of_it_is_not_there(client: AdminClient, name: str) -> None:
    answer = client.call("GET", f"/console/{name}")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert answer.body["type"] == "urn:lms-webhooks:problem:no-such-path"


def test_it_is_only_for_reading(client: AdminClient) -> None:
    assert client.call("POST", "/console").status == 405
    assert client.call("PUT", "/console/app.js").status == 405


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_that_a_language_loads_is_small(client: AdminClient, language: str) -> None:
    sizes = {}
    for name in FILES.keys() - set(LANGUAGES) | {language}:
        answer = client.call("GET", f"/console/{name}", headers={"accept-encoding": "gzip, br"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        packed = b64decode(answer.text)
        sizes[name] = (len(gzip.decompress(packed)), len(packed))
    plain, compressed = (sum(each) for each in zip(*sizes.values(), strict=True))
    assert plain < MAX_BYTES, sizes
    assert compressed < MAX_BYTES_COMPRESSED, sizes


def test_text_goes_into_the_page_as_text() -> None:
    for name, text in SCRIPTS.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name


def test_a_search_for_an_event_cuts_no_id() -> None:
    """A browser cuts what is pasted into a field without a word, and the search would find nothing."""
    assert "maxlength" not in SCRIPTS["deliveries.js"]


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"""(?:href|src)="console/([^"]+)""", FILES["index.html"]))
    for text in SCRIPTS.values():
        named |= set(re.findall(r"""(?:from|import\()\s*['"`]\./([\w.]+)""", text))
        named |= set(re.findall(r"""/, '([\w.]+\.js)'\]""", text))
    assert named - {"config.json"} | {"index.html"} == FILES.keys()


##### Words


def test_every_language_has_every_word() -> None:
    english = table("en.js", "words")
    for language in LANGUAGES:
        words = table(language, "words")
        assert words.keys() == english.keys(), language
        for key, text in words.items():
            assert text.strip(), f"{language}: {key}"
            assert set(_PLACE.findall(text)) == set(_PLACE.findall(english[key])), f"{language}: {key}"


def test_each_word_is_used_and_each_that_is_used_is_there() -> None:
    words = set(table("en.js", "words"))
    stems = {re.sub(r"\.(one|many)$", "", key) for key in words}
    code = "".join(text for name, text in SCRIPTS.items() if name not in LANGUAGES)
    exact = set(re.findall(r"\bt\(\s*'([\w.-]+)'", code))
    assert exact <= stems, exact - stems
    prefixes = set(re.findall(r"\bt\(`([\w.-]+\.)\$\{", code))
    for prefix in prefixes:
        assert any(stem.startswith(prefix) for stem in stems), prefix
    quoted = set(re.findall(r"'([\w.-]+)'", code)) | {"real-time", "non-real-time"}
    unused = {stem for stem in stems if stem not in quoted and not any(stem.startswith(p) for p in prefixes)}
    assert not unused, unused


ACTIONS = {
    action
    for path in Path(console_files.__file__).parent.glob("*.py")
    for action in re.findall(r'"((?:webhook|delivery|notice-subscription)\.[a-z-]+)"', path.read_text())
} - {"webhook.test"}
"""What the activity of an account can name."""


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("advice.", [each for each in ErrorClass if each is not ErrorClass.FORBIDDEN_ADDRESS]),
        ("replay.", [*ReplayState]),
        ("error.", [*ErrorClass]),
        ("status.", ["pending", "delivered", "failed", "expired"]),
        ("did.", ACTIONS),
        ("lane.", ["realtime", "batch", "retry", "replay"]),
        ("auth.", ["none", "basic", "signature"]),
        ("disabled.", ["gone", "failing"]),
        ("mail.", ["pending", "confirmed", "ended"]),
        ("now.", ["active", "paused", "inactive"]),
        ("", ["real-time", "non-real-time"]),
    ],
)
def test_there_is_a_word_for_everything_that_the_api_can_say(prefix: str, names: list[str]) -> None:
    assert {f"{prefix}{name}" for name in names} <= table("en.js", "words").keys()


def test_the_catalogue_is_translated() -> None:
    assert list(table("it.js", "events")) == list(EVENT_TYPES), "console/it.js: events"


RULED = (inputs, targets, authentication, subscriptions, replays)
"""Where the sentences stand that the console shows beside a field."""
NOT_TYPED = {
    "must be an event name that GET /v1/event-types lists",
    "must not be null; leave out what is to stay",
    "must not be null; leave it out for the slots of the deployment",
    "must have everyMinutes alone, or dailyAt and timeZone",
    "must not name {n} twice",
}
"""What no form of the console can send."""


def problems_that_the_console_meets() -> set[str]:
    """What the API says when it is no field that is wrong; the first number, or the id, is `{n}`.

    Those left out are about paths, headers, bodies and roles, which the console has right, or have words of
    their own.
    """
    met = (
        problems.WebhookNotFoundProblem(),
        problems.DeliveryNotFound(),
        problems.WebhookLimitExceededProblem(5),
        problems.SubscriptionLimitExceeded(20),
        problems.ReplayInProgressProblem(),
        problems.NotActive("paused"),
        problems.RateLimited(60, 5),
        problems.MailLimitExceeded(3, 20, 5),
        problems.CreationLimitExceededProblem(100, 5),
        problems.ContentionProblem(),
        problems.InternalError("01234567-89ab-cdef-0123-456789abcdef"),
    )
    entries = _RULES["too_long"].format(max_length=10, actual_length=11)
    reasons = {entries, "rejected 8 times, at last with HTTP 422", "not delivered within 7 days"}
    return (
        {each.detail for each in met}
        | reasons
        | {
            str(ast.literal_eval(each.args[0]))
            for each in ast.walk(ast.parse(inspect.getsource(retries)))
            if isinstance(each, ast.Call) and ast.unparse(each.func) == problems.NothingToRetry.__name__
        }
    )


def sentences(module: ModuleType) -> Iterator[str]:
    """The rules in a module's code; what only a call knows is `{n}` in them."""
    tree = ast.parse(inspect.getsource(module))
    parts = {id(part) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for part in each.values}
    for each in ast.walk(tree):
        text = ""
        if isinstance(each, ast.JoinedStr):
            text = "".join(_part(part, module) for part in each.values)
        elif isinstance(each, ast.Constant) and id(each) not in parts:
            text = str(each.value)
        if re.match(r"(?:must|is) ", text):
            yield text


def _part(part: ast.expr, module: ModuleType) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return str(getattr(module, ast.unparse(part.value), "{n}"))


def test_each_rule_that_a_form_can_break_is_translated_and_no_other() -> None:
    """A rule with a new wording would be shown in English."""
    answered = {rule for module in RULED for rule in sentences(module)}
    assert len(answered) > 30
    assert answered >= NOT_TYPED
    common = {"must not be empty", "is required"}
    long = {_RULES["too_long"], _RULES["string_too_long"]}
    others = (set(_RULES.values()) - common - long) | NOT_TYPED
    reasons = {sentence for fault in TlsFault if (sentence := describe_tls_fault(fault))}
    own = {"The API cannot be reached."}
    assert all(sentence in FILES["session.js"] for sentence in own)
    _, _, rest = FILES["it.js"].partition("export const rules = {")
    beginnings = {
        english.replace("\\'", "'"): italian
        for english, italian in re.findall(
            r"^  '((?:[^'\\]|\\.)+)': '((?:[^'\\]|\\.)+)',$", rest.partition("};")[0], re.MULTILINE
        )
    }
    used = set()
    for sentence in (answered - NOT_TYPED) | common | reasons | own:
        (beginning,) = [each for each in beginnings if sentence.startswith(each)] or [sentence]
        assert set(_PLACE.findall(beginnings[beginning])) == set(_PLACE.findall(sentence)), sentence
        used.add(beginning)
    for sentence in problems_that_the_console_meets():
        # The first that fits is shown: `An account has at most` comes before `An account has`.
        beginning = next((each for each in beginnings if sentence.startswith(each)), sentence)
        assert "{n}" not in beginnings[beginning] or re.search(r"\d", sentence)
        used.add(beginning)
    assert used == beginnings.keys()
    assert not [each for each in others if each.startswith(tuple(beginnings))]

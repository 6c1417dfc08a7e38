"""Define the models of the bodies that the API takes, and the rule of each field."""

import re
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from lms_webhooks.admin.joiners import all_joiners_show
from lms_webhooks.admin.query_parameters import parse_time_ms
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.slots import (
    MAX_DAILY_TIMES,
    MAX_EVERY_MINUTES,
    MIN_EVERY_MINUTES,
    BatchSchedule,
    DailyAt,
    EveryMinutes,
)
from lms_webhooks.sending.targets import ForbiddenTarget, check_url

MAX_HEADERS = 10
MAX_HEADER_VALUE_LENGTH = 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 5.6.2
_HEADER_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")  # RFC 9110 5.5, ASCII: what every server reads alike
# Those that we set ourselves, and those that belong to the connection rather than to the request.
_BARRED_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_BARRED_PREFIXES = ("webhook-", "proxy-")
UNKNOWN_EVENT = "must be an event name that GET /v1/event-types lists"
_REPEATED = "must not be given twice, in upper or lower case"

# A mail address as people have them (RFC 5321's dot-string), at a host with a dot: SNS says what it can mail.
_ADDRESS = re.compile(
    r"(?=.{1,64}@)[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
)
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Invisible characters (Unicode's Default_Ignorable_Code_Point) and those that change the direction of text,
# such as U+202E: one text would look like another. `joiners` judges joiners and variation selectors.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BLANK = re.compile("[\\s\u200c\u200d\u2800\ufe00-\ufe0f]*")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def _violation(rule: str) -> PydanticCustomError:
    return PydanticCustomError("rule", rule)


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise _violation("must not contain control characters or line breaks")
    return text


def _visible(text: str) -> str:
    if _HIDDEN.search(text):
        raise _violation("must not contain characters that are invisible or change the direction of the text")
    return text


def _without_idle(text: str) -> str:
    """Refuse joiners and selectors that change nothing: "HR" with one would look like "HR"."""
    if not all_joiners_show(text):
        raise _violation(
            "must have joiners and variation selectors only where they show: in words of Arabic, Indic and"
            " related scripts, and in emoji"
        )
    return text


def _not_blank(text: str) -> str:
    if _BLANK.fullmatch(text):
        raise _violation("must contain a visible character")
    return text


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise _violation("must not begin or end with white space")
    return text


def _lines(text: str) -> str:
    if _CONTROL_BUT_LINES.search(text):
        raise _violation("must not contain control characters other than line breaks")
    return text


def _without_colon(text: str) -> str:
    if ":" in text:
        raise _violation("must not contain a colon, which ends the user name in basic authentication")
    return text


def _allowed_target(url: str, info: ValidationInfo) -> str:
    assert info.context is not None, "validate with the context that WebhookInput names"
    try:
        check_url(url, loopback_allowed=info.context["loopback_allowed"])
    except ForbiddenTarget as error:
        raise _violation(error.rule) from None
    return url


def _known_event(name: str, info: ValidationInfo) -> str:
    if name not in (info.context or {}).get("event_types", EVENT_TYPES):
        raise _violation(UNKNOWN_EVENT)
    return name


def _allowed_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case, as HTTP compares them.

    Raises:
        ValidationError: with an error for each header that breaks a rule.
    """
    kept: dict[str, str] = {}
    broken: list[InitErrorDetails] = []
    for given, value in headers.items():
        name = given.lower()
        rule = _REPEATED if name in kept else _header_violation(given, value)
        if rule:
            broken.append(InitErrorDetails(type=_violation(rule), loc=(given,), input=value))
        kept[name] = value
    if broken:
        # pydantic puts the path of the field before the paths of these.
        raise ValidationError.from_exception_data("headers", broken)
    return kept


def _header_violation(given: str, value: str) -> str:
    """Return the rule that a header breaks, or nothing."""
    name = given.lower()
    if not _TOKEN.fullmatch(given):
        return "must have a name of 1 to 64 letters, digits, hyphens and other characters of an HTTP token"
    if name in _BARRED_HEADERS or name.startswith(_BARRED_PREFIXES):
        return "must not be set here: the system or the connection sets it"
    if len(value) > MAX_HEADER_VALUE_LENGTH or not _HEADER_VALUE.fullmatch(value):
        return (
            f"must have a value of 1 to {MAX_HEADER_VALUE_LENGTH} visible ASCII characters, with spaces or"
            " tabs only between them"
        )
    return ""


def _without_repeats(names: list[str]) -> list[str]:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise _violation(f"must not name {repeated} twice")
    return names


class _Input(BaseModel):
    """Base of all bodies: strict types, and unknown fields are errors, so that no mistake passes silently."""

    # Each is built by the first call that takes it. A cold start would build all for a call that needs one.
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        defer_build=True,
    )


class EmptyInput(_Input):
    """The body of a call that takes none."""


class NoAuthenticationInput(_Input):
    """Requests carry no authentication."""

    type: Literal["none"]


class BasicAuthenticationInput(_Input):
    """Requests carry this user name and password (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[
        str, Field(min_length=1, max_length=255), AfterValidator(_one_line), AfterValidator(_without_colon)
    ]
    password: Annotated[str, Field(min_length=1, max_length=255, repr=False), AfterValidator(_one_line)]


class SignatureAuthenticationInput(_Input):
    """Requests are signed, with a secret that the system makes."""

    type: Literal["signature"]


type _Name = Annotated[
    str,
    Field(min_length=1, max_length=80),
    AfterValidator(_one_line),
    AfterValidator(_trimmed),
    AfterValidator(_not_blank),
    AfterValidator(_visible),
    AfterValidator(_without_idle),
]
type _Description = Annotated[
    str,
    Field(max_length=140),
    AfterValidator(_lines),
    AfterValidator(_visible),
    AfterValidator(_without_idle),
]
type _TargetUrl = Annotated[str, AfterValidator(_allowed_target)]
type _Authentication = Annotated[
    NoAuthenticationInput | BasicAuthenticationInput | SignatureAuthenticationInput,
    Field(discriminator="type"),
]
type _Events = Annotated[
    list[Annotated[str, AfterValidator(_known_event)]],
    Field(min_length=1),
    AfterValidator(_without_repeats),
]
type _EventsOfStored = Annotated[list[str], Field(min_length=1), AfterValidator(_without_repeats)]
type _Status = Literal["active", "paused", "inactive"]
type _Headers = Annotated[dict[str, str], Field(max_length=MAX_HEADERS), AfterValidator(_allowed_headers)]


def _not_null(value: object, rule: str) -> object:
    if value is None:
        raise _violation(rule)
    return value


class _PartialInput(_Input):
    """A body in which fields may be left out."""

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """Refuse null: `None` stands for a field that is left out."""
        return _not_null(value, "must not be null; leave out what is to stay")


def _period(minutes: int, info: ValidationInfo) -> int:
    # The deployment's own may be shorter. A client that sends back what it read must be understood.
    is_default = minutes == (info.context or {}).get("batch_every_minutes")
    if not MIN_EVERY_MINUTES <= minutes <= MAX_EVERY_MINUTES and not is_default:
        raise _violation(f"must be a whole number from {MIN_EVERY_MINUTES} to {MAX_EVERY_MINUTES}")
    return minutes


def _time_of_day(text: str) -> str:
    if not _TIME_OF_DAY.fullmatch(text):
        raise _violation("must be a time of day such as 02:00 or 14:30")
    return text


def _time_zone(name: str) -> str:
    if name not in _time_zones():
        raise _violation("must be a time zone of the IANA database, such as Europe/Rome or UTC")
    return name


@cache
def _time_zones() -> frozenset[str]:
    """The names of the IANA database. The folders of zoneinfo also have others, such as `localtime`."""
    return frozenset(files("tzdata").joinpath("zones").read_text().split())


class BatchScheduleInput(_PartialInput):
    """When non-real-time events go out: `everyMinutes`, or `dailyAt` with `timeZone`."""

    every_minutes: Annotated[int, AfterValidator(_period)] | None = None
    daily_at: (
        Annotated[
            list[Annotated[str, AfterValidator(_time_of_day)]],
            Field(min_length=1, max_length=MAX_DAILY_TIMES),
            AfterValidator(_without_repeats),
        ]
        | None
    ) = None
    time_zone: Annotated[str, AfterValidator(_time_zone)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.model_fields_set not in ({"every_minutes"}, {"daily_at", "time_zone"}):
            raise _violation("must have everyMinutes alone, or dailyAt and timeZone")
        return self

    def to_schedule(self) -> BatchSchedule:
        """Return the schedule that this says."""
        if self.every_minutes is not None:
            return EveryMinutes(self.every_minutes)
        assert self.daily_at is not None
        assert self.time_zone is not None
        return DailyAt(tuple(sorted(self.daily_at)), self.time_zone)


class WebhookInput(_Input):
    """A webhook to create or to test."""

    # Validate it with the context {"loopback_allowed": bool}. The context may also have "event_types", where
    # a deployer added some, and "batch_every_minutes", the period of the deployment.

    name: _Name
    description: _Description = ""
    target_url: _TargetUrl
    authentication: _Authentication
    events: _Events
    status: _Status = "active"
    ordered: bool = False
    headers: _Headers = {}
    batch_schedule: BatchScheduleInput | None = None
    keep_response_bodies: bool = False

    @field_validator("batch_schedule", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """Refuse null: `None` stands for the slots of the deployment."""
        return _not_null(value, "must not be null; leave it out for the slots of the deployment")


class WebhookPatch(_PartialInput):
    """The fields of a webhook to change. The others stay."""

    # Validate it as WebhookInput. `WebhookService.update` judges the names of events: a stored webhook may
    # have some that the catalogue has no longer.

    name: _Name | None = None
    description: _Description | None = None
    target_url: _TargetUrl | None = None
    authentication: _Authentication | None = None
    events: _EventsOfStored | None = None
    status: _Status | None = None
    ordered: bool | None = None
    headers: _Headers | None = None
    batch_schedule: BatchScheduleInput | None = None
    keep_response_bodies: bool | None = None


class SampleInput(_PartialInput):
    """Which sample to send; by default that of the webhook's first event."""

    event_name: Annotated[str, AfterValidator(_known_event)] | None = None


def _address(text: str) -> str:
    """Return the address in lower case, as mail servers compare it, so that nobody is mailed twice."""
    if not _ADDRESS.fullmatch(text):
        raise _violation("must be a mail address such as team@example.com")
    return text.lower()


class SubscriptionInput(_Input):
    """The person who gets notifications about the account's webhooks by mail."""

    email: Annotated[str, Field(max_length=254), AfterValidator(_address)]


def _time(value: object) -> int:
    milliseconds = parse_time_ms(value) if isinstance(value, str) else None
    if milliseconds is None:
        raise _violation("must be a time such as 2026-11-03T12:00:00Z")
    return milliseconds


type _Time = Annotated[int, BeforeValidator(_time, json_schema_input_type=str)]


class ReplayInput(_PartialInput):
    """The part of the history to send again, by the time of the events."""

    from_time: Annotated[_Time, Field(alias="from")]
    to_time: Annotated[_Time | None, Field(alias="to")] = None
    status: Literal["delivered", "failed", "expired"] | None = None
    event_name: Annotated[str, AfterValidator(_known_event)] | None = None

    @field_validator("to_time")
    @classmethod
    def _in_order(cls, to_time: int | None, info: ValidationInfo) -> int | None:
        from_time = info.data.get("from_time")  # not there, if it breaks a rule itself
        if to_time is not None and from_time is not None and to_time <= from_time:
            raise _violation("must be later than from")
        return to_time

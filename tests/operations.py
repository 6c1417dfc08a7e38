"""Every operation of the admin API, as its description has them, with a body that is good.

For tests that hold for all of them: who adds an operation need not think of those.
"""

from dataclasses import dataclass
from typing import Any

from tools.openapi import describe

_BODIES: dict[str, dict[str, Any]] = {
    "WebhookInput": {
        "name": "Enrollments to HR",
        "targetUrl": "https://hooks.example.com/lms",
        "authentication": {"type": "none"},
        "events": ["COURSE_ENROLLMENT"],
        "status": "active",
    },
    "WebhookPatch": {"name": "Changed"},
    "SampleInput": {},
    "ReplayInput": {"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z"},
    "SubscriptionInput": {"email": "ada@example.com"},
}


_QUERY = {"from": "2026-11-01T00:00:00Z"}
"""A good value of each parameter that some call requires."""


@dataclass(frozen=True)
class Operation:
    """One method of one path. `ids` are the parameters of the path."""

    method: str
    template: str
    ids: tuple[str, ...]
    body: dict[str, Any] | None
    is_guarded: bool = False
    """Whether it takes an `If-Match`."""
    query: str = ""
    """The parameters that it requires, after a question mark."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def is_read(self) -> bool:
        return self.method == "GET"

    def path(self, **ids: str) -> str:
        """The path about certain things."""
        return self.template.format(**ids) + self.query

    def path_with(self, parameters: str, **ids: str) -> str:
        """The same with more parameters."""
        path = self.path(**ids)
        return f"{path}{'&' if '?' in path else '?'}{parameters}"


def operations() -> list[Operation]:
    """All that needs a token."""
    return [
        Operation(
            method.upper(), path, _ids(path), _body(operation), _is_guarded(operation), _query(operation)
        )
        for path, methods in describe()["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def _ids(path: str) -> tuple[str, ...]:
    return tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))


def _is_guarded(operation: dict[str, Any]) -> bool:
    return any(each["name"] == "If-Match" for each in operation.get("parameters", []))


def _query(operation: dict[str, Any]) -> str:
    required = [
        each["name"]
        for each in operation.get("parameters", [])
        if each["in"] == "query" and each.get("required")
    ]
    return f"?{'&'.join(f'{name}={_QUERY[name]}' for name in required)}" if required else ""


def _body(operation: dict[str, Any]) -> dict[str, Any] | None:
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return _BODIES[schema.rpartition("/")[2]]

"""The description of the admin API is that of the code: every route, model and problem, fresh and valid."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lms_webhooks.admin import problems
from lms_webhooks.admin.handlers import ROUTES, Handlers
from tests.contract.test_documents import ADMIN_API, rows
from tests.unit.admin_client import AdminClient, admin_client
from tools import openapi

_VERSIONED = ("updateWebhook", "rotateSigningSecret", "deleteWebhook")
DESCRIBED: dict[str, Any] = json.loads(openapi.text())


@pytest.fixture(scope="module")
def client() -> Iterator[AdminClient]:
    with admin_client("openapi") as client:
        yield client


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def all_problems(parent: type[problems.Problem] = problems.Problem) -> Iterator[type[problems.Problem]]:
    for problem in parent.__subclasses__():
        if problem is not problems.NotFound:
            yield problem
        yield from all_problems(problem)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_what_is_committed_is_what_the_code_says() -> None:
    assert openapi.COMMITTED.read_text() == openapi.text(), "run make generate"


def test_it_is_served_to_everybody(client: AdminClient) -> None:
    answer = client.call("GET", "/openapi.json", claims={})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.text == openapi.text()
    assert client.call("POST", "/openapi.json").status == 405


def test_every_route_is_described_or_open() -> None:
    assert {route.handler for route in ROUTES.routes if not route.is_public} == openapi.TEXTS.keys()
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids)) == len(openapi.TEXTS)


def test_a_handler_gets_the_body_that_its_route_declares() -> None:
    for route in ROUTES.routes:
        if not route.is_public:
            (body,) = getattr(Handlers, route.handler).__annotations__["call"].__args__
            assert body is (route.takes or type(None)), route.handler


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    named = {reference.removeprefix("#/components/schemas/") for reference in references(DESCRIBED)}
    assert named == DESCRIBED["components"]["schemas"].keys()
    text = json.dumps(DESCRIBED)
    assert not re.search(r"(Output|Taken)\b", text)
    for link in re.findall(r'"operationId": "(\w+)", "parameters"', text):
        assert link in {operation["operationId"] for _, _, operation in operations()}


def test_every_problem_is_an_answer_of_some_call() -> None:
    """One is of no call: the path has no such method."""
    referred = {reference.rpartition("/")[2] for reference in references(DESCRIBED["paths"])}
    named = {name.removesuffix("Problem") for name in referred if name.endswith("Problem")}
    existing = {problem.__name__.removesuffix("Problem") for problem in all_problems()}
    assert named == existing - {"MethodNotAllowed"}


def test_the_document_has_every_problem() -> None:
    documented = {row[1].strip("`"): row[0] for row in rows(ADMIN_API, "Errors")}
    assert documented == {problem.slug: str(problem.status) for problem in all_problems()}


def test_the_document_makes_every_call() -> None:
    """The end-to-end tests make those that it makes."""
    text = ADMIN_API.read_text()
    for path, method, operation in operations():
        request = re.escape(f"{method.upper()} {path}")
        request = re.sub(r"\\{\w+\\}", "[A-Za-z0-9_-]+", request)
        assert re.search(rf"^{request}(\?.*)?$", text, re.MULTILINE), operation["operationId"]


def test_every_call_that_needs_a_token_says_so_with_the_gateway_s_refusals() -> None:
    assert DESCRIBED["security"] == [{"token": []}]
    for path, method, operation in operations():
        assert {"401", "403", "429", "500"} <= operation["responses"].keys(), f"{method} {path}"
        message = operation["responses"]["401"]["content"]["application/json"]["schema"]
        assert message == {"$ref": "#/components/schemas/GatewayMessage"}


def test_nulls_are_neither_taken_nor_given() -> None:
    schemas = {k: v for k, v in DESCRIBED["components"]["schemas"].items() if k != "GatewayMessage"}
    assert '"null"' not in json.dumps(schemas)
    for name, schema in schemas.items():
        if name.endswith(("Input", "Patch")):
            assert schema["additionalProperties"] is False, name


def test_posts_take_a_key_and_changes_take_a_version() -> None:
    for path, method, operation in operations():
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) == (method == "post"), f"{method} {path}"
        assert ("If-Match" in names) == (operation["operationId"] in _VERSIONED)

"""Clients of AWS that say what a test wants, and refuse what AWS's own models do not know."""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.stub import Stubber

type Scripts = dict[str, list[tuple[str, dict[str, Any] | str]]]
"""For each service what it is asked in turn, and what it says: a response, or `Code: message` of an error."""


def scripted(scripts: Scripts) -> Callable[..., Any]:
    """What makes a client of the service that is named. One client takes over where another stopped."""
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = _client(service, scripts[service])
        return clients[service]

    return client


def _client(service: str, script: list[tuple[str, dict[str, Any] | str]]) -> Any:
    client = boto3.client(
        service,  # type: ignore[call-overload]  # the stubs want a literal
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    stubber = Stubber(client)
    for operation, said in script:
        if isinstance(said, str):
            code, _, message = said.partition(": ")
            stubber.add_client_error(operation, code, message)
        else:
            stubber.add_response(operation, said)
    stubber.activate()
    return client

"""Measure whether time tells what is another account's from what never was.

    make bench ONLY=tenancy            200 calls of each kind for each operation, some minutes
    make bench ONLY=tenancy CALLS=50

Each operation of the API's description is called about another account's things and about made-up ones, in
turn. Tests see that both get the same response after the same calls of AWS. Here it is the time. Prints
the medians and ✓ or ✗ for each pair within 20 %; the exit status says whether all are.
"""

import http.client
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from local.stack import down, up
from tests.e2e.system import Account, System
from tests.operations import Operation, operations

MOST_APART = 0.20
NEVER_MADE = {
    "webhookId": "wh_" + "n" * 22,
    "deliveryId": "MTc5MzcwNzIwMDAwMCNuZXZlcg",
    "subscriptionId": "ns_" + "n" * 22,
}
_UNMEASURED = 10  # calls until processes are warm


def measure(*, calls: int) -> bool:
    """Measure `calls` of each kind for each operation, on a stack of its own. Return whether all hold."""
    with tempfile.TemporaryDirectory(prefix="tenancy-") as directory:
        try:
            system = System(up(Path(directory)))
            _let_it_speak(system)
            holds = _measure(system, calls)
        finally:
            down(Path(directory))
    print("\nall of it holds" if holds else "\nnot all of it holds")
    return holds


def _let_it_speak(system: System) -> None:
    """Have each call print a line: for one that prints none the emulator takes 50 ms, beside which what is to
    be measured would be small."""
    client = system.client("lambda")
    stack_name = system.stack.description["stackName"]
    answer = system.client("cloudformation").describe_stack_resource(
        StackName=stack_name, LogicalResourceId="AdminApiFunction"
    )
    name = answer["StackResourceDetail"]["PhysicalResourceId"]
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables | {"POWERTOOLS_LOGGER_LOG_EVENT": "true"}}
    )


def _measure(system: System, calls: int) -> bool:
    ids = _one_of_everything(system.new_account())
    own = system.new_account()
    # A webhook of their own, so that a delivery's id is the only thing that is another's.
    own_id = own.create("https://hooks.example.com/own")["webhookId"]
    holds = True
    for operation in (each for each in operations() if each.ids):
        holds &= _compare(own, operation.name, operation, ids, NEVER_MADE, calls)
        if "deliveryId" in operation.ids:
            theirs, nobody_s = ids | {"webhookId": own_id}, NEVER_MADE | {"webhookId": own_id}
            holds &= _compare(own, f"{operation.name} of one's own", operation, theirs, nobody_s, calls)
    return holds


def _one_of_everything(account: Account) -> dict[str, str]:
    """An account with a paused webhook for which an event waits, and a notice subscription."""
    webhook_id = account.create("https://hooks.example.com/theirs", status="paused")["webhookId"]
    account.emit()
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    give_up_at = time.monotonic() + 60
    while not (listed := account.call("GET", path).body["deliveries"]):
        if time.monotonic() > give_up_at:
            raise SystemExit("the event did not arrive")
        time.sleep(0.2)
    subscribed = account.call("POST", "/v1/notice-subscriptions", {"email": "ada@example.com"})
    return {
        "webhookId": webhook_id,
        "deliveryId": listed[0]["deliveryId"],
        "subscriptionId": subscribed.body["subscriptionId"],
    }


def _compare(
    account: Account,
    title: str,
    operation: Operation,
    theirs: dict[str, str],
    nobody_s: dict[str, str],
    calls: int,
) -> bool:
    url = urlsplit(account.system.stack.api_url)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    sent = None if operation.body is None else json.dumps(operation.body)
    headers = {"authorization": f"Bearer {account.token}", "content-type": "application/json"}
    took: dict[str, list[float]] = {"theirs": [], "nobody's": []}
    for number in range(_UNMEASURED + calls):
        kinds = [("theirs", theirs), ("nobody's", nobody_s)]
        random.shuffle(kinds)  # so that neither is always the first, behind whatever the other left
        for kind, ids in kinds:
            began = time.perf_counter()
            connection.request(operation.method, url.path + operation.path(**ids), sent, headers)
            response = connection.getresponse()
            response.read()
            if number >= _UNMEASURED:
                took[kind].append((time.perf_counter() - began) * 1000)
            if response.status != 404:
                raise SystemExit(f"{title}: {response.status}")
    connection.close()
    one, other = median(took["theirs"]), median(took["nobody's"])
    apart = abs(one - other) / min(one, other)
    is_alike = apart <= MOST_APART
    print(
        f"  {'✓' if is_alike else '✗'} {title:76}{one:7.1f} ms {other:7.1f} ms  {apart:6.1%}",
        flush=True,
    )
    return is_alike

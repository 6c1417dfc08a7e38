"""From PutEvents to the acknowledged POST on the deployed stack, against the emulator's own way to a function
that does nothing else.

Both take the same events of one bus, by a rule and a queue each. The other function posts each event's id,
over a connection that it keeps, and that is all: what it takes is the emulator's and this machine's.
"""

import io
import json
import statistics
import tempfile
import zipfile
from pathlib import Path

from bench.results import Figure, Row, p99
from bench.scenario import ACCOUNT_ID, Scenario, arrive
from local.stack import Stack, down, up
from tests.fakes.receiver import Receiver

_RATES = {10: 100, 100: 1_000}  # events a second, and how many
_NAME = "bench-least"
_LEAST = """
import http.client, json
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=5)

def lambda_handler(event, context):
    for record in event["Records"]:
        event_id = json.loads(record["body"])["detail"]["eventId"]
        connection.request("POST", "/", json.dumps({{"events": [{{"eventId": event_id}}]}}))
        connection.getresponse().read()
    print("done")
"""


def measure() -> Row:
    """Bring a stack up, and let the same events go both ways."""
    figures = []
    with tempfile.TemporaryDirectory() as folder, Receiver() as ours, Receiver() as least:
        stack = up(Path(folder))
        try:
            _deploy_least(stack, least.port)
            scenario = Scenario(stack, stack.id_token(ACCOUNT_ID), 0)
            scenario.register("measured", ours.url())
            _go(scenario, "warm", 50, 50, ours, least)
            for rate, count in _RATES.items():
                prefix = f"at{rate}-"
                _go(scenario, prefix, count, rate, ours, least)
                taken = {
                    name: scenario.latencies_ms(receiver, prefix)
                    for name, receiver in (("ours", ours), ("least", least))
                }
                for name, of in (("p50", statistics.median), ("p99", p99)):
                    values = {each: of(milliseconds) for each, milliseconds in taken.items()}
                    figures += [
                        *(
                            Figure(f"{rate} events/s, {name}, {each}", value, "ms")
                            for each, value in values.items()
                        ),
                        Figure(
                            f"{rate} events/s, {name}, ours / least", values["ours"] / values["least"], "x"
                        ),
                    ]
        finally:
            down(Path(folder))
    return Row(figures)


def _go(scenario: Scenario, prefix: str, count: int, rate: int, *receivers: Receiver) -> None:
    scenario.emit(prefix, count, per_second=rate)
    for receiver in receivers:
        arrive(receiver, prefix, count)


def _deploy_least(stack: Stack, port: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", _LEAST.format(port=port))
    queue_url = stack.client("sqs").create_queue(QueueName=_NAME)["QueueUrl"]
    functions = stack.client("lambda")
    functions.create_function(
        FunctionName=_NAME,
        Runtime="python3.13",
        Handler="app.lambda_handler",
        Role="arn:aws:iam::000000000000:role/bench",
        Code={"ZipFile": packed.getvalue()},
        Timeout=30,
    )
    queue_arn = stack.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    functions.create_event_source_mapping(FunctionName=_NAME, EventSourceArn=queue_arn, BatchSize=10)
    events, bus = stack.client("events"), stack.description["eventBusName"]
    pattern = json.dumps({"source": [stack.description["eventSource"]]})
    events.put_rule(Name=_NAME, EventBusName=bus, EventPattern=pattern)
    events.put_targets(Rule=_NAME, EventBusName=bus, Targets=[{"Id": "1", "Arn": queue_arn}])

"""The search at the end of a run finds a secret wherever it could stand: one is planted in each place.

Known to these tests alone, so that the search of the run itself does not fail.
"""

import json
import time
import uuid
import zlib
from collections.abc import Iterable

import pytest

from tests.e2e import leaks
from tests.e2e.leaks import KnownSecrets, Text
from tests.e2e.system import System, until


@pytest.fixture
def secret() -> str:
    return f"planted-{uuid.uuid4().hex}"


def has_found(secret: str, texts: Iterable[Text], place: str, *, logs: bool = False) -> bool:
    known = KnownSecrets()
    known.add(secret, "what was planted")
    return any(place in each for each in known.found_in(texts, logs=logs))


@pytest.mark.parametrize("table", ["webhooks", "deliveries"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_in_a_table(table: str, is_compressed: bool, secret: str, system: System) -> None:
    name, key = system.stack.description["tables"][table], {"pk": {"S": "PLANTED"}, "sk": {"S": "1"}}
    told = {"B": zlib.compress(secret.encode())} if is_compressed else {"M": {"in": {"L": [{"S": secret}]}}}
    system.client("dynamodb").put_item(TableName=name, Item={**key, "told": told})
    try:
        assert has_found(secret, leaks.in_tables(system.stack), name)
    finally:
        system.client("dynamodb").delete_item(TableName=name, Key=key)


def test_on_a_queue(secret: str, system: System) -> None:
    sqs = system.client("sqs")
    url = sqs.create_queue(QueueName=secret[:40])["QueueUrl"]
    assert url in sqs.list_queues()["QueueUrls"], "where the search of the run looks"
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"in": secret}))
    assert has_found(secret, leaks.in_queues(system.stack, url), url)
    sqs.delete_queue(QueueUrl=url)


def test_in_a_notice(secret: str, system: System) -> None:
    url = system.listen_to(system.notice_topic)
    system.client("sns").publish(TopicArn=system.notice_topic, Message=secret)
    until(lambda: has_found(secret, leaks.in_queues(system.stack, url), url), "the notice")


def test_in_a_log(secret: str, system: System) -> None:
    logs, group = system.client("logs"), f"planted-{uuid.uuid4().hex}"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="1")
    line = {"timestamp": int(time.time() * 1000), "message": secret}
    logs.put_log_events(logGroupName=group, logStreamName="1", logEvents=[line])
    assert has_found(secret, leaks.in_logs(system.stack), "the functions' logs", logs=True)
    logs.delete_log_group(logGroupName=group)


def test_in_a_metric(secret: str, system: System) -> None:
    dimensions = [{"Name": "who", "Value": secret}]
    system.client("cloudwatch").put_metric_data(
        Namespace="Planted", MetricData=[{"MetricName": "planted", "Value": 1, "Dimensions": dimensions}]
    )
    assert has_found(secret, leaks.in_metrics(system.stack), "metrics", logs=True)


def test_in_an_answer(secret: str) -> None:
    known = KnownSecrets()
    known.add(secret, "what was planted")
    known.note_call(None, json.dumps({"told": secret}), is_repeated=True)
    assert known.given_away == []
    known.note_call(None, json.dumps({"told": secret}), is_repeated=False)
    assert len(known.given_away) == 1

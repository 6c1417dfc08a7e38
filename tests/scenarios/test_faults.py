"""Our own faults: calls that fail, messages that are lost, processes that die. They charge no endpoint."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lms_webhooks.model.health import Mode
from lms_webhooks.model.lanes import Lane
from lms_webhooks.model.webhooks import SignatureAuthentication, Status
from lms_webhooks.stores.health import TICKET_GRACE_SECONDS
from tests.scenarios.endpoints import DOWN, OK, Reply, Script, always, in_turn, until
from tests.scenarios.world import DAY, HOUR, MINUTE, NON_REAL_TIME, SIGNED, Call, World


def flapping(period: float) -> Script:
    return lambda _, now: Reply(500 if int(now / period) % 3 == 0 else 200, seconds=0.4)


@pytest.mark.parametrize("service", ["dynamodb", "sqs"])
def test_a_fault_while_events_come_in_loses_none(world: World, service: str) -> None:
    """For ten minutes each call fails. Messages come again after their visibility timeout."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    ids: list[str] = []
    with world.fault(service):
        for _ in range(10):
            ids += world.emit(3)
            world.run(MINUTE)
    world.run(10 * MINUTE)
    assert sorted(endpoint.acknowledged) == ids
    assert world.outcomes(webhook) == {"delivered": 30}
    assert world.health(webhook).revision == 0


def test_messages_that_go_back_to_their_queue_are_counted(world: World) -> None:
    """The age of the queue leaves them out once they were received three times, so the count has an alarm."""
    world.register(world.endpoint())
    world.emit(3)
    world.run(MINUTE)
    assert world.metrics["MessagesReturned"] == 0
    with world.fault("dynamodb"):
        world.emit(3)
        world.run(MINUTE)
    assert world.metrics["MessagesReturned"] == 3
    world.run(10 * MINUTE)
    assert world.metrics["MessagesReturned"] == 3


@pytest.mark.parametrize("service", ["dynamodb", "sqs"])
def test_a_fault_while_events_are_drained_loses_none(world: World, service: str) -> None:
    """Events wait when the fault begins. When it is over, the drain goes on within two minutes."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 4, DOWN, Reply(seconds=0.3))
    ids = world.emit(400)
    world.run(6.5)
    assert len(world.waiting_ids(webhook)) > 300
    with world.fault(service):
        world.run(10 * MINUTE)
    world.run(2 * MINUTE)
    assert endpoint.acknowledged[:3] == ids[:3]
    assert world.outcomes(webhook) == {"delivered": 400}
    assert world.marks(webhook) == {}
    assert world.duplicates() <= 64, "what was under way when the records could not be written"
    assert sum(attempt.status_code != 200 for attempt in world.health(webhook).attempts) <= 1


@pytest.mark.parametrize("operation", ["BatchWriteItem", "BatchGetItem", "UpdateItem", "Query", "PutItem"])
def test_one_kind_of_call_that_fails_for_a_while(world: World, operation: str) -> None:
    """Half of a function's calls work, so it gets far: to the middle of everything."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 30, DOWN)
    ids: list[str] = []
    with world.fault("dynamodb", operations=(operation,)):
        for _ in range(10):
            ids += world.emit(5)
            ids += world.emit(2, name=NON_REAL_TIME)
            world.run(20)
    world.run_until_quiet(at_most=HOUR)
    assert set(endpoint.acknowledged) == set(ids)
    assert world.outcomes(webhook) == {"delivered": 70}


def test_answers_that_are_lost_after_the_call_took_effect(world: World) -> None:
    """Every third call of DynamoDB is done, but its response does not come back, for five minutes."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 30, DOWN)

    def lose_answer(call: Call, proceed: Callable[[], Any]) -> Any:
        answer = proceed()
        if call.service == "dynamodb" and call.number % 3 == 0:
            raise world.aws_error("RequestTimeout", call)
        return answer

    world.taps.append(lose_answer)
    ids: list[str] = []
    for _ in range(15):
        ids += world.emit(5)
        world.run(20)
    world.taps.clear()
    world.run_until_quiet(at_most=HOUR)
    assert set(endpoint.acknowledged) == set(ids)
    assert world.outcomes(webhook) == {"delivered": 75}


def test_batches_of_which_dynamodb_does_only_a_part(world: World) -> None:
    """Each BatchWriteItem leaves its last item, and now and then it does so until the code gives up."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 30, DOWN)

    def leave_last(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation != "BatchWriteItem":
            return proceed()
        ((table, requests),) = call.params["RequestItems"].items()
        if len(requests) == 1 and call.number % 2 == 0:
            return proceed()
        call.params["RequestItems"] = {table: requests[:-1]}
        if len(requests) > 1:
            proceed()
        return {"UnprocessedItems": {table: requests[-1:]}}

    world.taps.append(leave_last)
    ids: list[str] = []
    for _ in range(15):
        ids += world.emit(5)
        world.run(20)
    world.taps.clear()
    world.run_until_quiet(at_most=HOUR)
    assert set(endpoint.acknowledged) == set(ids)
    assert world.outcomes(webhook) == {"delivered": 75}


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_kms_is_down(world: World, *, ordered: bool) -> None:
    """Nothing can be signed, so nothing is sent; the endpoint is not to blame, and its health says so."""
    endpoint, open_endpoint = world.endpoint(), world.endpoint("open")
    webhook = world.register(endpoint, authentication=SIGNED, ordered=ordered)
    world.register(open_endpoint)
    with world.fault("kms", code="KMSInternalException"):
        ids = world.emit(5)
        world.run(10 * MINUTE)
        assert endpoint.posts == []
        assert world.health(webhook).failures == 0
        assert world.waiting_ids(webhook) == ids
        assert world.realtime_queue.messages == []
        assert world.metrics["DrainRunsAborted"], "they would wait unnoticed"
        assert world.problems() == []
        assert open_endpoint.acknowledged == ids, "who needs no secret is served"
    world.run(15 * MINUTE)
    assert endpoint.acknowledged == ids
    assert all(post.headers["webhook-signature"] for post in endpoint.posts)
    assert world.health(webhook).failing_since_ms == 0


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_the_key_of_a_secret_is_lost_for_ever(world: World, *, ordered: bool) -> None:
    """Nobody can read one webhook's secret again. Its events wait, those of others go on; once its admin has
    made a new secret, which another key encrypts, all goes out."""
    endpoint, open_endpoint = world.endpoint(), world.endpoint("open")
    webhook = world.register(endpoint, authentication=SIGNED, ordered=ordered)
    other = world.register(open_endpoint)
    before = world.webhooks[webhook].authentication
    assert isinstance(before, SignatureAuthentication)

    def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation == "Decrypt" and call.params["CiphertextBlob"] == before.secret_ciphertext:
            raise world.aws_error("IncorrectKeyException", call)
        return proceed()

    world.taps.append(refuse)
    ids: list[str] = []
    for _ in range(6):  # fifty receives of one message, after which it is a dead letter, take five hours
        ids += world.emit(5)
        world.run(HOUR)
    assert (endpoint.posts, world.health(webhook).failures) == ([], 0)
    assert world.waiting_ids(webhook) == ids, "the history shows them as pending"
    assert world.realtime_queue.messages == []
    assert open_endpoint.acknowledged == ids
    assert world.problems() == []
    world.rotate_secret(webhook)
    ids += world.emit(1)
    world.run_until_quiet(at_most=HOUR)
    assert sorted(endpoint.acknowledged) == sorted(open_endpoint.acknowledged) == sorted(ids)
    assert world.outcomes(webhook) == world.outcomes(other) == {"delivered": 31}
    assert world.duplicates() == 0


@pytest.mark.parametrize("ordered", [False, True], ids=["direct", "ordered"])
def test_kms_is_asked_for_a_secret_that_is_lost_once_an_hour_by_each_process(
    world: World, *, ordered: bool
) -> None:
    """It would sign along with its successor, for a day."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, authentication=SIGNED, ordered=ordered)
    before = world.webhooks[webhook].authentication
    assert isinstance(before, SignatureAuthentication)
    asked = []

    def refuse(call: Call, proceed: Callable[[], Any]) -> Any:
        if call.operation == "Decrypt" and call.params["CiphertextBlob"] == before.secret_ciphertext:
            asked.append(call.process)
            raise world.aws_error("IncorrectKeyException", call)
        return proceed()

    world.taps.append(refuse)
    world.rotate_secret(webhook)
    ids = []
    for _ in range(110):
        ids += world.emit()
        world.run(MINUTE)
    assert endpoint.acknowledged == ids
    assert all("v1," in post.headers["webhook-signature"] for post in endpoint.posts)
    assert 2 <= len(asked) <= 2 * len(set(asked))
    assert len(set(asked)) <= 3


def test_a_lost_drain_message_is_replaced_by_the_sweep_within_a_minute(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, OK)
    world.emit(3)
    world.run(1)
    assert world.lose_drain_messages() == 1
    due_at = world.health(webhook).next_attempt_at_ms / 1000
    world.run(2 * MINUTE)
    assert endpoint.posts[1].started_at <= due_at + MINUTE + 1
    assert world.outcomes(webhook) == {"delivered": 3}


def test_every_drain_message_is_lost(world: World) -> None:
    """The sweep alone keeps things going, though it takes a while each time for sure that one is lost."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, DOWN, DOWN, DOWN, OK)

    def lose(call: Call, proceed: Callable[[], Any]) -> Any:
        return {"MessageId": "m"} if call.operation == "SendMessage" else proceed()

    world.taps.append(lose)
    ids = world.emit(30)
    world.run(4 * TICKET_GRACE_SECONDS + 10 * MINUTE)
    assert endpoint.acknowledged == ids
    assert world.outcomes(webhook) == {"delivered": 30}


def test_many_drain_messages_make_one_drainer(world: World) -> None:
    """Messages that nobody sent, early, late, together. `World.problems` would see two drainers at once."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = until(world.now + 20, DOWN, Reply(seconds=0.5))
    ids = world.emit(1000)
    for number in range(100):
        world.send_for_drainer(webhook, delay_seconds=number % 30)
        world.send_for_drainer(webhook, delay_seconds=5)
    world.run_until_quiet()
    assert endpoint.acknowledged == ids
    drained = [post.reply.status for post in endpoint.posts_of("drainer")]
    assert drained.count(500) == 3, "after 5 and 10 s, whatever messages come, and then of another event"
    assert world.duplicates() == 0


def test_a_drain_message_without_work_does_nothing(world: World) -> None:
    webhook = world.register(world.endpoint())
    world.send_for_drainer(webhook)
    world.run(5)
    assert world.posts() == []
    assert world.health(webhook).revision == 0
    assert not any(queue.messages for queue in world.drain_queues)


def test_a_killed_drainer_is_replaced_when_its_lease_is_over(world: World) -> None:
    """It dies in the middle of a POST of 32 events. Those come twice, no others do; order is kept."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(DOWN, Reply(seconds=1))
    ids = world.emit(300)
    world.run_while(lambda: endpoint.posts[-1:] == [] or endpoint.sizes[-1] < 32, at_most=MINUTE)
    world.run(0.5)
    assert world.kill("drainer") == 1
    killed_at = world.now
    posts = len(endpoint.posts)
    world.run_until_quiet()
    assert 60 < endpoint.posts[posts].started_at - killed_at < 70 + MINUTE
    assert sorted(set(endpoint.acknowledged)) == ids
    assert world.duplicates() == 32
    assert world.outcomes(webhook) == {"delivered": 300}


def test_a_killed_dispatcher_is_replaced_by_the_messages_that_come_again(world: World) -> None:
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = always(Reply(seconds=0.5))
    ids = world.emit(10)
    world.run(1.2)
    assert world.kill("dispatcher") == 1
    world.run(10 * MINUTE)
    assert set(endpoint.acknowledged) == set(ids)
    assert world.duplicates() == 3, "the three that it had sent and not yet recorded"
    assert world.outcomes(webhook) == {"delivered": 10}


@pytest.mark.slow
def test_kills_at_random_lose_nothing(world: World) -> None:
    """Dispatchers and drainers are killed every second while events come, and ten endpoints flap."""
    endpoints = [world.endpoint(f"hooks{number}") for number in range(10)]
    webhooks = [world.register(each, account=str(number // 5)) for number, each in enumerate(endpoints)]
    for number, endpoint in enumerate(endpoints):
        endpoint.script = flapping(period=20 + number)
    ids: dict[str, list[str]] = {"0": [], "1": []}
    for number in range(240):
        for account in ids:
            ids[account] += world.emit(5, account=account)
        world.run(1 + (number * 7 % 11) / 10)
        world.kill("dispatcher" if number % 2 else "drainer")
    for endpoint in endpoints:
        endpoint.script = always(OK)
    world.run_until_quiet(at_most=2 * HOUR)
    assert world.deaths > 25
    for number, (endpoint, webhook) in enumerate(zip(endpoints, webhooks, strict=True)):
        assert set(endpoint.acknowledged) == set(ids[str(number // 5)])
        assert world.outcomes(webhook) == {"delivered": 1200}
        assert world.litter(webhook) == []


def test_malformed_messages_go_to_quarantine_and_hold_up_nobody(world: World) -> None:
    endpoint = world.endpoint()
    world.register(endpoint)
    world.realtime_queue.send(json.dumps({"source": "lms", "detail": {"eventId": "x"}}))
    ids = world.emit(3)
    world.run(2)
    assert endpoint.acknowledged == ids
    assert len(world.quarantined) == 1
    assert world.realtime_queue.messages == []


def test_an_event_that_is_set_aside_twice_ends_once(world: World) -> None:
    """Its message comes twice. It stands in the retry lane once, and is delivered once."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint)
    endpoint.script = in_turn(Reply(422), Reply(422), OK)
    (event,) = world.emit(1)
    world.duplicate(event, delay_seconds=20)
    world.run(30)
    assert world.waiting_ids(webhook, Lane.RETRY) == [event]
    world.run(5 * MINUTE)
    assert endpoint.acknowledged == [event]
    assert world.marks(webhook) == {}
    assert world.health(webhook).mode is Mode.DIRECT


def lose_mark(world: World, function: str) -> None:
    """The next process of a function that is about to mark a lane dies before it does."""

    def die_at_mark(call: Call, proceed: Callable[[], Any]) -> Any:
        pk = call.params.get("Key", {}).get("pk", {}).get("S", "") if call.service == "dynamodb" else ""
        if call.function == function and call.operation == "UpdateItem" and pk.startswith("DUE#"):
            world.taps.remove(die_at_mark)
            world.die(call)
        return proceed()

    world.taps.append(die_at_mark)


def test_an_event_in_an_unmarked_lane_is_looked_for_though_it_went_out_another_way(world: World) -> None:
    """Its dispatcher dies before the mark, and when its message comes again the webhook is not paused any
    more: it is sent directly, and nobody knows what stands in the lane."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    lose_mark(world, "dispatcher")
    world.emit(2)
    world.run(5)
    assert world.deaths == 1
    world.change(webhook, status=Status.ACTIVE)
    world.send_for_drainer(webhook)
    world.run(10 * MINUTE)
    assert world.outcomes(webhook) == {"delivered": 2}
    assert world.waiting_ids(webhook) == []
    assert world.marks(webhook) == {}


def test_an_event_in_an_unmarked_lane_is_looked_for_though_nobody_wants_it_any_more(world: World) -> None:
    """The same, but the webhook is retired meanwhile: what waits is to expire on record."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    lose_mark(world, "dispatcher")
    world.emit(2)
    world.run(5)
    assert world.deaths == 1
    world.change(webhook, status=Status.INACTIVE)
    world.run(8 * DAY)
    assert world.outcomes(webhook) == {"expired": 2}
    assert world.marks(webhook) == {}


def test_an_event_in_an_unmarked_lane_is_buried_with_its_webhook(world: World) -> None:
    """The same, but the webhook is deleted meanwhile, and no registration says that it ever was."""
    webhook = world.register(world.endpoint(), status=Status.PAUSED)
    lose_mark(world, "dispatcher")
    world.emit(2)
    world.run(5)
    assert world.deaths == 1
    world.delete(webhook)
    world.run(10 * MINUTE)
    assert world.outcomes(webhook) == {"failed": 2}
    assert world.marks(webhook) == {}


@pytest.mark.parametrize("function", ["dispatcher", "drainer"])
def test_an_event_that_was_set_aside_and_not_marked_leaves_nothing_behind(
    world: World, function: str
) -> None:
    """Who sets it aside dies before the mark. Tried again, it is delivered."""
    endpoint = world.endpoint()
    webhook = world.register(endpoint, ordered=function == "drainer")
    endpoint.script = in_turn(Reply(422), OK)
    lose_mark(world, function)
    world.emit(1)
    world.run(12 * MINUTE)
    assert world.deaths == 1
    assert world.outcomes(webhook) == {"delivered": 1}
    assert world.waiting_ids(webhook) == []
    assert world.marks(webhook) == {}

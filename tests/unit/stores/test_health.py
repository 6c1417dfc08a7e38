"""Health is changed by who knows the last state, and drained by one at a time."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_webhooks.aws.dynamodb import Table, key_item
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.health import DisabledReason, Health, Mode
from lms_webhooks.stores.health import (
    TICKET_GRACE_SECONDS,
    HealthStore,
    Ticket,
    health_attributes,
    health_key,
    read_health_item,
)
from tests.engines.dynamodb import Engine
from tests.unit.tables import Fails, before, empty, tables

ME, OTHER = "me", "other"
WEBHOOK = ("1010", "wh_1")
FAILING = Health(
    mode=Mode.BACKLOG,
    failures=3,
    rejections=2,
    failing_since_ms=5,
    last_error="HTTP 503",
    next_attempt_at_ms=100,
    disabled_reason=DisabledReason.FAILING,
    disabled_at_ms=9,
    attempts=(Attempt(5, 80, 503, None), Attempt(6, 5000, None, "timeout")),
)


@pytest.fixture
def table(dynamodb: Engine) -> Iterator[Table]:
    with tables(dynamodb) as (webhooks, _):
        yield webhooks


@pytest.fixture
def store(table: Table) -> HealthStore:
    """With the health of one webhook, as it is made with it."""
    put(table, Health())
    return HealthStore(table)


def put(table: Table, health: Health) -> None:
    item = {**key_item(health_key(*WEBHOOK)), **health_attributes(health)}
    table.client.put_item(TableName=table.name, Item=item)


def stored(table: Table) -> Health | None:
    answer = table.client.get_item(TableName=table.name, Key=key_item(health_key(*WEBHOOK)))
    return read_health_item(answer["Item"]) if "Item" in answer else None


def acquire(store: HealthStore, owner: str, *, now_ms: int) -> Health | None:
    return store.acquire(*WEBHOOK, owner=owner, now_ms=now_ms, until_ms=now_ms + 70)


def test_every_field_comes_back(store: HealthStore, table: Table) -> None:
    assert store.save(*WEBHOOK, FAILING, revision=0)
    assert stored(table) == replace(FAILING, revision=1)


times = st.integers(0, 4_102_444_800_000)
attempts = st.builds(
    Attempt,
    times,
    st.integers(0, 15_000),
    st.none() | st.integers(100, 999),
    st.none() | st.sampled_from(["timeout", "dns"]),
)


@given(
    st.builds(
        Health,
        epoch=st.integers(1, 10**6),
        revision=st.integers(0, 10**9),
        mode=st.sampled_from(Mode),
        failures=st.integers(0, 10**6),
        rejections=st.integers(0, 10**6),
        failing_since_ms=times,
        last_error=st.sampled_from(["", "HTTP 503", "timeout"]),
        next_attempt_at_ms=times,
        backlog_since_ms=times,
        recovered_at_ms=times,
        min_stay_seconds=st.integers(60, 900),
        request_size=st.integers(1, 100),
        request_size_ceiling=st.integers(1, 100),
        ceiling_left=st.integers(0, 64),
        ceiling_trials=st.integers(4, 64),
        max_bytes=st.integers(0, 262_144),
        max_bytes_until_ms=times,
        suspects=st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 100), max_size=10),
        realtime_in_a_row=st.integers(0, 10**9),
        lower_lane=st.sampled_from(["", "batch", "retry", "replay"]),
        nearly_empty_since_ms=times,
        disabled_reason=st.none() | st.sampled_from(DisabledReason),
        disabled_at_ms=times,
        attempts=st.lists(attempts, max_size=20).map(tuple),
    )
)
def test_any_health_comes_back_from_its_item(health: Health) -> None:
    assert read_health_item(health_attributes(health)) == health


def test_an_item_of_an_older_version_is_read() -> None:
    """One that knows no suspects, and whose ceiling held for a day."""
    old = health_attributes(replace(FAILING, request_size_ceiling=16))
    for name in ("ceiling_left", "ceiling_trials", "max_bytes", "max_bytes_until_ms", "suspects"):
        del old[name]
    for name in ("realtime_in_a_row", "lower_lane", "nearly_empty_since_ms"):
        del old[name]
    old["batch_ceiling_until_ms"] = {"N": "1793707200000"}
    assert read_health_item(old) == replace(FAILING, request_size_ceiling=16)


def test_an_older_version_can_read_what_is_written_now() -> None:
    assert health_attributes(FAILING)["batch_ceiling_until_ms"] == {"N": "0"}


def test_what_is_stored_is_read(store: HealthStore) -> None:
    assert store.read(*WEBHOOK) == Health()
    assert store.read("2020", WEBHOOK[1]) is None


def test_each_write_is_a_revision_of_its_own(store: HealthStore, table: Table) -> None:
    """The process that read revision 0 notices, though what stands looks as it did then."""
    assert store.save(*WEBHOOK, Health(failures=1), revision=0)
    assert store.save(*WEBHOOK, Health(), revision=1)
    assert not store.save(*WEBHOOK, Health(failures=9), revision=0)
    assert stored(table) == Health(revision=2)


@pytest.mark.parametrize("epoch", [1, 3])
def test_news_of_another_epoch_is_not_written(store: HealthStore, table: Table, epoch: int) -> None:
    put(table, Health(epoch=2))
    assert not store.save(*WEBHOOK, replace(FAILING, epoch=epoch), revision=0)
    assert store.save(*WEBHOOK, replace(FAILING, epoch=2), revision=0)


def test_a_dispatcher_s_write_takes_no_lease(store: HealthStore) -> None:
    """The endpoint failed directly while a drainer is at work."""
    assert acquire(store, ME, now_ms=0)
    assert store.save(*WEBHOOK, Health(mode=Mode.BACKLOG), revision=0)
    assert acquire(store, OTHER, now_ms=1) is None


def test_a_fault_is_not_a_lost_race(store: HealthStore, table: Table) -> None:
    before(table).answers["update_item"] = Fails(before(table).behind.update_item)
    with pytest.raises(ClientError):
        store.save(*WEBHOOK, FAILING, revision=0)
    with pytest.raises(ClientError):
        acquire(store, ME, now_ms=0)
    with pytest.raises(ClientError):
        store.release(*WEBHOOK, owner=ME, health=FAILING, before=Health())


def test_of_two_who_saw_the_same_state_one_writes(store: HealthStore, table: Table) -> None:
    assert store.save(*WEBHOOK, FAILING, revision=0)
    assert not store.save(*WEBHOOK, Health(failures=9), revision=0)
    assert stored(table) == replace(FAILING, revision=1)


def test_late_news_of_an_earlier_epoch_changes_nothing(store: HealthStore, table: Table) -> None:
    """The admin changed the URL: revision 0 of epoch 2 is not the revision 0 that the failure was seen in."""
    put(table, Health(epoch=2))
    assert not store.save(*WEBHOOK, FAILING, revision=0)
    assert stored(table) == Health(epoch=2)


def test_a_deleted_webhook_is_not_brought_back(store: HealthStore, table: Table) -> None:
    table.client.delete_item(TableName=table.name, Key=key_item(health_key(*WEBHOOK)))
    assert not store.save(*WEBHOOK, FAILING, revision=0)
    assert acquire(store, ME, now_ms=0) is None
    assert not store.release(*WEBHOOK, owner=ME, health=FAILING, before=Health())
    assert stored(table) is None


def test_the_lease_is_held_by_one_until_it_ends(store: HealthStore) -> None:
    assert acquire(store, ME, now_ms=0) == Health()
    assert acquire(store, OTHER, now_ms=70) is None
    assert acquire(store, OTHER, now_ms=71) == Health()


def test_a_call_that_took_effect_unseen_gets_the_lease_when_it_is_tried_again(store: HealthStore) -> None:
    """botocore repeats a call whose response was lost: the lease that it finds is its own."""
    assert acquire(store, ME, now_ms=0) == Health()
    assert acquire(store, ME, now_ms=1) == Health()
    assert acquire(store, OTHER, now_ms=2) is None


@pytest.mark.parametrize(
    ("story", "lease", "next_attempt_at_ms", "is_taken"),
    [
        ("free, and due", None, 100, True),
        ("free, and never tried", None, 0, True),
        ("free, and too early", None, 101, False),
        ("another's, and it lives", (OTHER, 101), 0, False),
        ("another's, in its last millisecond", (OTHER, 100), 0, False),
        ("another's, and it has ended", (OTHER, 99), 0, True),
        ("another's, ended, and too early", (OTHER, 99), 101, False),
    ],
)
def test_who_may_take_the_lease(
    store: HealthStore,
    story: str,
    lease: tuple[str, int] | None,
    next_attempt_at_ms: int,
    is_taken: bool,
) -> None:
    if lease:
        owner, until_ms = lease
        assert store.acquire(*WEBHOOK, owner=owner, now_ms=0, until_ms=until_ms)
    assert store.save(*WEBHOOK, Health(next_attempt_at_ms=next_attempt_at_ms), revision=0)
    assert (acquire(store, ME, now_ms=100) is not None) is is_taken, story


def test_before_the_next_attempt_nobody_gets_the_lease(store: HealthStore, table: Table) -> None:
    put(table, FAILING)
    assert acquire(store, ME, now_ms=99) is None
    assert acquire(store, ME, now_ms=100) == FAILING


def test_what_the_holder_learnt_is_written_with_the_release(store: HealthStore, table: Table) -> None:
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    learnt = replace(before, failures=1, next_attempt_at_ms=50)
    assert store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert stored(table) == replace(learnt, revision=1)
    assert acquire(store, OTHER, now_ms=50) is not None


def test_nothing_learnt_is_nothing_written(store: HealthStore, table: Table) -> None:
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    assert store.release(*WEBHOOK, owner=ME, health=before, before=before)
    assert stored(table) == before
    assert acquire(store, OTHER, now_ms=1) is not None


@pytest.mark.parametrize("meanwhile", [Health(epoch=2), replace(FAILING, revision=1, next_attempt_at_ms=0)])
def test_what_changed_meanwhile_stands_and_the_lease_is_given_back(
    store: HealthStore, table: Table, meanwhile: Health
) -> None:
    """A new epoch, or a dispatcher that saw the endpoint fail: the holder's news is dropped, its lease is
    not kept."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    attributes = health_attributes(meanwhile)
    table.client.update_item(
        TableName=table.name,
        Key=key_item(health_key(*WEBHOOK)),
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
        ExpressionAttributeNames={f"#{name}": name for name in attributes},
        ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
    )
    learnt = replace(before, disabled_reason=DisabledReason.GONE)
    assert not store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert stored(table) == meanwhile
    assert acquire(store, OTHER, now_ms=1) == meanwhile


def test_who_lost_the_lease_releases_nothing(store: HealthStore, table: Table) -> None:
    """A drainer that was frozen past its lease wakes up while another is at work."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    assert acquire(store, OTHER, now_ms=71) is not None
    assert not store.release(*WEBHOOK, owner=ME, health=FAILING, before=before)
    assert stored(table) == Health()
    assert acquire(store, ME, now_ms=72) is None


def test_of_what_another_holds_nothing_is_given_back(store: HealthStore) -> None:
    """Not even by who learnt nothing."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    assert acquire(store, OTHER, now_ms=71)
    assert store.release(*WEBHOOK, owner=ME, health=before, before=before), "there was nothing to write"
    assert acquire(store, ME, now_ms=72) is None


def test_a_lease_is_given_back_once(store: HealthStore, table: Table) -> None:
    """The call timed out after it took effect; meanwhile another took the lease."""
    before = acquire(store, ME, now_ms=0)
    assert before is not None
    learnt = replace(before, failures=1)
    assert store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert acquire(store, OTHER, now_ms=1)
    store.release(*WEBHOOK, owner=ME, health=learnt, before=before)
    assert stored(table) == replace(learnt, revision=1)
    assert acquire(store, ME, now_ms=2) is None


# Tickets

GRACE_MS = TICKET_GRACE_SECONDS * 1000


def take(store: HealthStore, text: str, *, now_ms: int = 0, due_ms: int | None = None) -> bool:
    """Want to send a message."""
    ticket = Ticket(text, now_ms if due_ms is None else due_ms)
    return store.take_ticket(*WEBHOOK, ticket, now_ms=now_ms)


def come(store: HealthStore, ticket: str, *, message_id: str = "", now_ms: int = 0) -> bool:
    """A drainer that got a message with this ticket wants the lease; return whether it gets it."""
    leased = store.acquire(
        *WEBHOOK,
        owner=f"o{now_ms}",
        now_ms=now_ms,
        until_ms=now_ms + 70,
        ticket=ticket,
        message_id=message_id,
    )
    return leased is not None


def test_while_a_message_is_on_its_way_nobody_else_comes_and_nobody_sends(store: HealthStore) -> None:
    assert take(store, "t")
    assert not take(store, "another", now_ms=GRACE_MS)
    assert not come(store, "", now_ms=GRACE_MS)
    assert not come(store, "another", now_ms=GRACE_MS)
    assert come(store, "t", now_ms=GRACE_MS)


def test_a_ticket_is_used_once(store: HealthStore) -> None:
    """SQS may deliver a message twice. The second finds the lease taken, or the ticket of the successor."""
    assert take(store, "t")
    before = acquire_with(store, "t")
    assert not come(store, "t", now_ms=1)
    assert not take(store, "another", now_ms=1), "while somebody drains nobody is sent for"
    successor = Ticket("next", 100)
    assert store.release(*WEBHOOK, owner=ME, health=before, before=before, ticket=successor)
    assert not come(store, "t", now_ms=2)
    assert not take(store, "another", now_ms=2)
    assert come(store, "next", now_ms=2)


def acquire_with(store: HealthStore, ticket: str) -> Health:
    leased = store.acquire(*WEBHOOK, owner=ME, now_ms=0, until_ms=70, ticket=ticket)
    assert leased is not None
    return leased


def test_a_call_that_took_the_ticket_unseen_gets_the_lease_when_it_is_tried_again(store: HealthStore) -> None:
    assert take(store, "t")
    assert acquire_with(store, "t") == acquire_with(store, "t")


def test_an_ended_ticket_keeps_nobody_out(store: HealthStore) -> None:
    """Its message is lost, or so late that it makes no difference any more."""
    assert take(store, "t")
    assert come(store, "", now_ms=GRACE_MS + 1)


def test_an_ended_ticket_lives_on_for_a_second_message(store: HealthStore) -> None:
    """Were it another one, a message that waits for longer than a ticket lives would always come too late."""
    assert take(store, "t")
    assert take(store, "t", now_ms=GRACE_MS + 1)
    assert not come(store, "", now_ms=GRACE_MS + 2)
    assert come(store, "t", now_ms=GRACE_MS + 2), "whichever of the two is first"


def test_who_got_the_message_may_put_another_in_its_place(store: HealthStore) -> None:
    assert take(store, "t")
    assert take(store, "t", now_ms=1, due_ms=9000)
    assert not take(store, "another", now_ms=9000 + GRACE_MS)
    assert not come(store, "", now_ms=9000 + GRACE_MS)
    assert come(store, "t", now_ms=9000 + GRACE_MS)


def test_a_message_that_comes_again_takes_the_place_of_its_successor(store: HealthStore) -> None:
    """Its drainer died before it could send it, or after. Of the two, the first that comes is the one."""
    before = acquire_with(store, "")
    assert store.release(*WEBHOOK, owner=ME, health=before, before=before, ticket=Ticket("m1", 0))
    assert not come(store, "", message_id="m2", now_ms=1)
    assert come(store, "", message_id="m1", now_ms=1)
    assert not come(store, "m1", message_id="m3", now_ms=2)


def test_a_ticket_that_was_taken_unseen_is_got_when_the_call_is_tried_again(
    store: HealthStore, table: Table
) -> None:
    """botocore repeats a call whose response was lost: the ticket that it finds is its own."""
    client = before(table)

    def update_twice(**call: Any) -> Any:
        del client.answers["update_item"]
        client.behind.update_item(**call)
        return client.behind.update_item(**call)

    client.answers["update_item"] = update_twice
    assert take(store, "t")
    assert come(store, "t")


def test_a_ticket_goes_with_what_the_holder_learnt_or_not_at_all(store: HealthStore) -> None:
    """Where something changed meanwhile, the successor that was thought of is not the one that is sent."""
    before = acquire_with(store, "")
    learnt = replace(before, failures=1, next_attempt_at_ms=50)
    ticket = Ticket("next", 50)
    assert store.release(*WEBHOOK, owner=ME, health=learnt, before=before, ticket=ticket)
    assert not come(store, "", now_ms=50)
    assert come(store, "next", now_ms=50)


def test_a_ticket_of_a_holder_whose_news_is_dropped_is_not_written(store: HealthStore) -> None:
    before = acquire_with(store, "")
    assert store.save(*WEBHOOK, Health(mode=Mode.BACKLOG), revision=0)
    ticket = Ticket("next", 0)
    assert not store.release(
        *WEBHOOK, owner=ME, health=replace(before, failures=1), before=before, ticket=ticket
    )
    assert come(store, "")


def test_who_lost_the_lease_leaves_no_ticket(store: HealthStore) -> None:
    before = acquire_with(store, "")
    assert come(store, "", now_ms=71)
    store.release(*WEBHOOK, owner=ME, health=before, before=before, ticket=Ticket("next", 0))
    assert come(store, "", now_ms=142)


def test_a_ticket_whose_message_could_not_be_sent_is_dropped_by_name(store: HealthStore) -> None:
    assert take(store, "t")
    store.drop_ticket(*WEBHOOK, "another")
    assert not take(store, "another")
    store.drop_ticket(*WEBHOOK, "t")
    assert take(store, "another")


def test_a_deleted_webhook_has_no_ticket(store: HealthStore, table: Table) -> None:
    table.client.delete_item(TableName=table.name, Key=key_item(health_key(*WEBHOOK)))
    assert not take(store, "t")
    store.drop_ticket(*WEBHOOK, "t")
    assert stored(table) is None


def test_before_the_next_attempt_a_ticket_does_not_help(store: HealthStore, table: Table) -> None:
    put(table, FAILING)
    assert take(store, "t")
    assert not come(store, "t", now_ms=99)
    assert come(store, "t", now_ms=100)


examples = count()


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from([ME, OTHER]), st.booleans(), st.integers(0, 50)), max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_a_lease_never_has_two_owners(table: Table, steps: list[tuple[str, bool, int]]) -> None:
    """Each takes it, or gives it back, whenever; time goes on, or not."""
    empty(table)
    store, now_ms = HealthStore(table), 0
    webhook = ("1010", f"wh_{next(examples)}")
    item = {**key_item(health_key(*webhook)), **health_attributes(Health())}
    table.client.put_item(TableName=table.name, Item=item)
    until_ms: dict[str, int] = {}
    for number, (name, takes, passes_ms) in enumerate(steps):
        now_ms += passes_ms
        if takes:
            owner = f"{name}-{number}"
            if store.acquire(*webhook, owner=owner, now_ms=now_ms, until_ms=now_ms + 70):
                assert not [each for each, until in until_ms.items() if until >= now_ms]
                until_ms[owner] = now_ms + 70
        else:
            for owner in [each for each in until_ms if each.startswith(name)]:
                store.release(*webhook, owner=owner, health=Health(), before=Health())
                del until_ms[owner]

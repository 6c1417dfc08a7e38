"""What is remembered of an account is never older than it may be."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks import registry as registry_module
from lms_webhooks.health import Health
from lms_webhooks.registry import MAX_AGE_SECONDS, Registry
from lms_webhooks.webhook_store import Registered, Unreadable, UnreadableWebhook
from tests.unit.tables import THROTTLED, webhook


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Stands in for the webhooks table: each read takes time, and gives what stands when it began."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.read_seconds = 0.0
        self.reads: list[str] = []
        self.fails = False
        self.unreadable: list[str] = []
        self.registered = {"1010": [registered("wh_1"), registered("wh_2")]}

    def read_each(self, account_id: str) -> tuple[list[Registered], list[Unreadable]]:
        self.reads.append(account_id)
        if self.fails:
            raise THROTTLED
        found = list(self.registered.get(account_id, []))
        unreadable = [Unreadable(each, None) for each in self.unreadable]
        self._clock.now += self.read_seconds
        return found, unreadable


def registered(webhook_id: str) -> Registered:
    return Registered(webhook(webhook_id=webhook_id), Health())


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        store: Any = self.store
        self.registry = Registry(store, clock=self.clock)

    def ids(self, account_id: str = "1010", *, fresh: bool = False) -> list[str]:
        found = self.registry.of_account(account_id, fresh=fresh)
        return [each.webhook.webhook_id for each in found]


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_as_fresh_as_the_design_asks() -> None:
    """Health at most 2 s old, and registrations 10 s."""
    assert MAX_AGE_SECONDS <= 2


@pytest.mark.parametrize(("age", "reads"), [(0, 1), (1.99, 1), (2, 2), (3, 2), (1e9, 2)])
def test_an_account_is_read_again_when_what_is_known_is_two_seconds_old(
    world: World, age: float, reads: int
) -> None:
    world.ids()
    world.store.registered["1010"].pop()
    world.clock.now += age
    assert world.ids() == (["wh_1", "wh_2"] if reads == 1 else ["wh_1"])
    assert len(world.store.reads) == reads


def test_what_is_used_does_not_stay_young(world: World) -> None:
    for _ in range(40):
        world.ids()
        world.clock.now += 0.1
    assert len(world.store.reads) == 2


def test_it_ages_from_before_the_read(world: World) -> None:
    """The read takes 1.5 s. A change that was made meanwhile may be missing from what it gives."""
    world.store.read_seconds = 1.5
    world.ids()
    world.clock.now += 0.49
    world.ids()
    assert len(world.store.reads) == 1
    world.clock.now += 0.01
    world.ids()
    assert len(world.store.reads) == 2


def test_fresh_reads_it_now_and_for_the_others_too(world: World) -> None:
    world.ids()
    world.store.registered["1010"].pop()
    assert world.ids(fresh=True) == ["wh_1"]
    assert world.ids() == ["wh_1"]
    assert len(world.store.reads) == 2


def test_what_is_known_to_be_out_of_date_is_forgotten(world: World) -> None:
    world.ids()
    world.ids("2020")
    world.registry.forget("1010")
    world.registry.forget("an account that was never read")
    world.ids()
    world.ids("2020")
    assert world.store.reads == ["1010", "2020", "1010"]


def test_an_account_without_webhooks_is_remembered_too(world: World) -> None:
    assert world.ids("2020") == world.ids("2020") == []
    assert len(world.store.reads) == 1


def test_one_webhook_is_found_in_its_account_alone(world: World) -> None:
    found = world.registry.find("1010", "wh_2")
    assert found == registered("wh_2")
    assert world.registry.find("1010", "wh_3") is None
    assert world.registry.find("2020", "wh_2") is None


def test_a_deleted_webhook_is_missed_at_once_when_it_is_asked_for_freshly(world: World) -> None:
    assert world.registry.find("1010", "wh_2")
    world.store.registered["1010"].pop()
    assert world.registry.find("1010", "wh_2")
    assert world.registry.find("1010", "wh_2", fresh=True) is None


def test_a_read_that_fails_is_told_and_what_is_old_is_not_used(world: World) -> None:
    world.ids()
    world.clock.now += 2
    world.store.fails = True
    with pytest.raises(ClientError):
        world.ids()
    world.store.fails = False
    assert world.ids() == ["wh_1", "wh_2"]


def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_MAX_ACCOUNTS", 10)
    for number in range(25):
        world.ids(f"{number}")
        assert len(world.registry._readings) <= 10
    assert world.ids("24") == []
    assert len(world.store.reads) == 25, "the last is remembered"


def test_a_webhook_that_cannot_be_read_is_not_taken_for_a_deleted_one(world: World) -> None:
    world.store.unreadable = ["wh_new"]
    assert world.ids() == ["wh_1", "wh_2"]
    assert [each.webhook_id for each in world.registry.unreadable("1010")] == ["wh_new"]
    with pytest.raises(UnreadableWebhook):
        world.registry.find("1010", "wh_new")
    assert world.registry.find("1010", "wh_1") is not None
    assert world.store.reads == ["1010"]

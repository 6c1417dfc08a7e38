"""What is remembered of an account is never older than it may be."""

import tracemalloc
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lms_webhooks.clocks import Clocks
from lms_webhooks.errors import UnreadableWebhook
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.model.event_types import EVENT_TYPES
from lms_webhooks.model.health import Health
from lms_webhooks.model.webhooks import Unreadable, Webhook, WebhookWithHealth
from lms_webhooks.stores import webhook_cache as registry_module
from lms_webhooks.stores.webhook_cache import MAX_AGE_SECONDS, WebhookCache
from tests.unit.tables import Throttled, webhook


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

    def read_each(self, account_id: str) -> tuple[list[WebhookWithHealth], list[Unreadable]]:
        self.reads.append(account_id)
        if self.fails:
            raise Throttled
        found = list(self.registered.get(account_id, []))
        unreadable = [Unreadable(each, None) for each in self.unreadable]
        self._clock.now += self.read_seconds
        return found, unreadable


def registered(webhook_id: str) -> WebhookWithHealth:
    return WebhookWithHealth(webhook(webhook_id=webhook_id), Health())


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store(self.clock)
        store: Any = self.store
        self.webhook_cache = WebhookCache(store, clocks=Clocks(wall=self.clock, monotonic=self.clock))

    def ids(self, account_id: str = "1010", *, fresh: bool = False) -> list[str]:
        found = self.webhook_cache.for_account(account_id, fresh=fresh)
        return [each.webhook.webhook_id for each in found]


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_as_fresh_as_the_design_asks() -> None:
    """An admin waits as long for a response: a second is no more than one takes for the call itself."""
    assert MAX_AGE_SECONDS == 1


@pytest.mark.parametrize(("age", "reads"), [(0, 1), (0.99, 1), (1, 2), (3, 2), (1e9, 2)])
def test_an_account_is_read_again_when_what_is_known_is_a_second_old(
    world: World, age: float, reads: int
) -> None:
    world.ids()
    world.store.registered["1010"].pop()
    world.clock.now += age
    assert world.ids() == (["wh_1", "wh_2"] if reads == 1 else ["wh_1"])
    assert len(world.store.reads) == reads


def test_what_is_used_does_not_stay_young(world: World) -> None:
    for _ in range(20):
        world.ids()
        world.clock.now += 0.0999
    assert len(world.store.reads) == 2


def test_it_ages_from_before_the_read(world: World) -> None:
    """The read takes 0.5 s. A change that was made meanwhile may be missing from what it gives."""
    world.store.read_seconds = 0.5
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
    world.webhook_cache.invalidate("1010")
    world.webhook_cache.invalidate("an account that was never read")
    world.ids()
    world.ids("2020")
    assert world.store.reads == ["1010", "2020", "1010"]


def test_an_account_without_webhooks_is_remembered_too(world: World) -> None:
    assert world.ids("2020") == world.ids("2020") == []
    assert len(world.store.reads) == 1


def test_one_webhook_is_found_in_its_account_alone(world: World) -> None:
    found = world.webhook_cache.find("1010", "wh_2")
    assert found == registered("wh_2")
    assert world.webhook_cache.find("1010", "wh_3") is None
    assert world.webhook_cache.find("2020", "wh_2") is None


def test_a_deleted_webhook_is_missed_at_once_when_it_is_asked_for_freshly(world: World) -> None:
    assert world.webhook_cache.find("1010", "wh_2")
    world.store.registered["1010"].pop()
    assert world.webhook_cache.find("1010", "wh_2")
    assert world.webhook_cache.find("1010", "wh_2", fresh=True) is None


def test_a_read_that_fails_is_told_and_what_is_old_is_not_used(world: World) -> None:
    world.ids()
    world.clock.now += 2
    world.store.fails = True
    with pytest.raises(ClientError):
        world.ids()
    world.store.fails = False
    assert world.ids() == ["wh_1", "wh_2"]


def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_BYTES", 10_000)
    world = World()
    for number in range(25):
        world.ids(f"{number}")
        assert world.webhook_cache._readings.weight <= 10_000
    assert world.ids("24") == []
    assert len(world.store.reads) == 25, "the last is remembered"


def test_a_webhook_that_cannot_be_read_is_not_taken_for_a_deleted_one(world: World) -> None:
    world.store.unreadable = ["wh_new"]
    assert world.ids() == ["wh_1", "wh_2"]
    assert [each.webhook_id for each in world.webhook_cache.unreadable("1010")] == ["wh_new"]
    with pytest.raises(UnreadableWebhook):
        world.webhook_cache.find("1010", "wh_new")
    assert world.webhook_cache.find("1010", "wh_1") is not None
    assert world.store.reads == ["1010"]


def test_what_is_old_is_no_more_in_memory(world: World) -> None:
    for number in range(25):
        world.ids(f"{number}")
    world.clock.now += MAX_AGE_SECONDS
    world.ids("25")
    assert len(world.webhook_cache._readings) == 1


def _copied(value: Any) -> Any:
    """With texts and numbers of its own, as botocore and the store make them."""
    kind = type(value)
    if isinstance(value, str) and not isinstance(value, Enum):
        return kind(value.encode().decode())
    if type(value) is int:
        return kind(str(value))
    if isinstance(value, dict):
        return kind({_copied(name): _copied(each) for name, each in value.items()})
    if isinstance(value, (tuple, frozenset)):
        return kind(map(_copied, value))
    if is_dataclass(value):
        return kind(**{each.name: _copied(getattr(value, each.name)) for each in fields(value)})
    return value


SMALL = webhook()
LARGE = webhook(
    name="n" * 80,
    description="\N{PILE OF POO}" * 140,
    target_url="https://hooks.example.com/" + "u" * 2000,
    events=frozenset(EVENT_TYPES),
    headers={f"x-header-{number}": "v" * 1000 for number in range(10)},
)
ATTEMPTS = tuple(Attempt(1_793_707_200_000 + number, 5000 + number, 503, None) for number in range(20))


@pytest.mark.parametrize(
    ("of", "health"),
    [
        (SMALL, Health()),
        (LARGE, Health()),
        (SMALL, Health(attempts=ATTEMPTS)),
        (LARGE, Health(attempts=ATTEMPTS)),
    ],
    ids=["small", "large", "small and failing", "large and failing"],
)
@pytest.mark.parametrize("webhooks", [0, 1, 5])
def test_a_reading_takes_no_more_than_is_reckoned(of: Webhook, health: Health, webhooks: int) -> None:
    """By tracemalloc, where no text is shared. Nor is much more reckoned than it takes."""
    readings = 40

    class Items:
        def read_each(self, _: str) -> tuple[list[WebhookWithHealth], list[Unreadable]]:
            return [WebhookWithHealth(_copied(of), _copied(health)) for _ in range(webhooks)], []

    store: Any = Items()
    webhook_cache = WebhookCache(store, clocks=Clocks(wall=lambda: 0, monotonic=lambda: 0))
    webhook_cache.for_account("warm")
    before = webhook_cache._readings.weight
    tracemalloc.start()
    for number in range(readings):
        webhook_cache.for_account(f"{number}")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reckoned = webhook_cache._readings.weight - before
    assert len(webhook_cache._readings) == readings + 1
    assert reckoned / 5 < taken <= reckoned

"""The age of what is remembered, by clocks that stand still, go on, or are set back."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lms_webhooks.clocks import Clocks, ExpiringCache


class Hands:
    """Both clocks, to be set."""

    def __init__(self) -> None:
        self.monotonic = 50.0
        self.wall = 1_700_000_000.0
        self.clocks = Clocks(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


def remembering(hands: Hands, *, max_weight: int = 100) -> ExpiringCache[str, str]:
    return ExpiringCache(max_age_seconds=10, max_weight=max_weight, clocks=hands.clocks)


@pytest.mark.parametrize(
    ("monotonic", "wall", "age"),
    [
        (5.0, 5.0, 5.0),
        (0.0, 3600.0, 3600.0),  # frozen for an hour
        (5.0, 3.0, 5.0),  # the wall clock was set back by two seconds
        (5.0, -3600.0, 5.0),
        (0.0, -2.0, 0.0),
        (0.5, 3598.5, 3598.5),  # frozen for an hour, and set back by two seconds meanwhile
    ],
)
def test_the_clock_that_says_more_counts(hands: Hands, monotonic: float, wall: float, age: float) -> None:
    moment = hands.clocks.now()
    hands.monotonic += monotonic
    hands.wall += wall
    assert hands.clocks.seconds_since(moment) == pytest.approx(age)


def test_the_clocks_of_the_process_are_the_default() -> None:
    clocks = Clocks()
    assert 0 <= clocks.seconds_since(clocks.now()) < 60


@pytest.mark.parametrize(("seconds", "is_known"), [(0, True), (9.9, True), (10, False), (3600, False)])
def test_what_is_too_old_is_not_remembered(hands: Hands, seconds: float, is_known: bool) -> None:
    cache = remembering(hands)
    cache.put("a", "one")
    hands.pass_by(seconds)
    assert cache.get("a") == ("one" if is_known else None)
    assert len(cache) == is_known


def test_a_clock_that_is_set_back_makes_nothing_live_for_ever(hands: Hands) -> None:
    cache = remembering(hands)
    cache.put("a", "one")
    hands.wall -= 5
    hands.pass_by(9)
    assert cache.get("a") == "one"
    hands.pass_by(1)
    assert cache.get("a") is None


def test_it_ages_from_when_the_caller_says(hands: Hands) -> None:
    cache = remembering(hands)
    began = hands.clocks.now()
    hands.pass_by(4)
    cache.put("a", "one", since=began)
    hands.pass_by(5.9)
    assert cache.get("a") == "one"
    hands.pass_by(0.1)
    assert cache.get("a") is None


def test_what_is_used_does_not_stay_young(hands: Hands) -> None:
    cache = remembering(hands)
    cache.put("a", "one")
    for _ in range(9):
        hands.pass_by(1)
        assert cache.get("a") == "one"
    hands.pass_by(1)
    assert cache.get("a") is None


def test_the_least_recently_used_goes_first(hands: Hands) -> None:
    cache = remembering(hands, max_weight=3)
    for key in "abc":
        cache.put(key, key)
    cache.get("a")
    cache.put("d", "d")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_heavy_ones_leave_room_for_few(hands: Hands) -> None:
    cache = remembering(hands, max_weight=100)
    for number in range(20):
        cache.put(f"light {number}", "x", weight=5)
    assert (len(cache), cache.weight) == (20, 100)
    cache.put("heavy", "x", weight=90)
    assert (len(cache), cache.weight) == (3, 100)
    cache.put("heavy", "y", weight=40)
    assert (len(cache), cache.weight, cache.get("heavy")) == (3, 50, "y")


def test_what_weighs_more_than_all_may_is_not_remembered(hands: Hands) -> None:
    cache = remembering(hands, max_weight=10)
    cache.put("a", "one")
    cache.put("a", "two", weight=11)
    assert cache.get("a") is None
    assert (len(cache), cache.weight) == (0, 0)


def test_what_is_old_makes_room(hands: Hands) -> None:
    cache = remembering(hands)
    for number in range(50):
        cache.put(f"{number}", "x")
    hands.pass_by(10)
    cache.put("new", "x")
    assert (len(cache), cache.weight) == (1, 1)


def test_what_is_forgotten_is_gone(hands: Hands) -> None:
    cache = remembering(hands)
    cache.put("a", "one")
    cache.discard("a")
    cache.discard("never there")
    assert cache.get("a") is None
    assert cache.weight == 0


def test_many_threads_keep_its_weight_right(hands: Hands) -> None:
    cache = remembering(hands, max_weight=7)

    def use(number: int) -> None:
        cache.put(f"{number % 11}", "x", weight=1 + number % 3)
        cache.get(f"{number % 7}")
        cache.discard(f"{number % 5}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(5000)))
    assert cache.weight == sum(entry.weight for entry in cache._entries.values()) <= 7

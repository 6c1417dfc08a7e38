"""The age of what is remembered, by clocks that stand still, go on, or are set back."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lms_webhooks.clocks import Clocks, Memory


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


def remembering(hands: Hands, *, max_weight: int = 100) -> Memory[str, str]:
    return Memory(max_age_seconds=10, max_weight=max_weight, clocks=hands.clocks)


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
    memory = remembering(hands)
    memory.put("a", "one")
    hands.pass_by(seconds)
    assert memory.get("a") == ("one" if is_known else None)
    assert len(memory) == is_known


def test_a_clock_that_is_set_back_makes_nothing_live_for_ever(hands: Hands) -> None:
    memory = remembering(hands)
    memory.put("a", "one")
    hands.wall -= 5
    hands.pass_by(9)
    assert memory.get("a") == "one"
    hands.pass_by(1)
    assert memory.get("a") is None


def test_it_ages_from_when_the_caller_says(hands: Hands) -> None:
    memory = remembering(hands)
    began = hands.clocks.now()
    hands.pass_by(4)
    memory.put("a", "one", since=began)
    hands.pass_by(5.9)
    assert memory.get("a") == "one"
    hands.pass_by(0.1)
    assert memory.get("a") is None


def test_what_is_used_does_not_stay_young(hands: Hands) -> None:
    memory = remembering(hands)
    memory.put("a", "one")
    for _ in range(9):
        hands.pass_by(1)
        assert memory.get("a") == "one"
    hands.pass_by(1)
    assert memory.get("a") is None


def test_the_least_recently_used_goes_first(hands: Hands) -> None:
    memory = remembering(hands, max_weight=3)
    for key in "abc":
        memory.put(key, key)
    memory.get("a")
    memory.put("d", "d")
    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]


def test_heavy_ones_leave_room_for_few(hands: Hands) -> None:
    memory = remembering(hands, max_weight=100)
    for number in range(20):
        memory.put(f"light {number}", "x", weight=5)
    assert (len(memory), memory.weight) == (20, 100)
    memory.put("heavy", "x", weight=90)
    assert (len(memory), memory.weight) == (3, 100)
    memory.put("heavy", "y", weight=40)
    assert (len(memory), memory.weight, memory.get("heavy")) == (3, 50, "y")


def test_what_weighs_more_than_all_may_is_not_remembered(hands: Hands) -> None:
    memory = remembering(hands, max_weight=10)
    memory.put("a", "one")
    memory.put("a", "two", weight=11)
    assert memory.get("a") is None
    assert (len(memory), memory.weight) == (0, 0)


def test_what_is_old_makes_room(hands: Hands) -> None:
    memory = remembering(hands)
    for number in range(50):
        memory.put(f"{number}", "x")
    hands.pass_by(10)
    memory.put("new", "x")
    assert (len(memory), memory.weight) == (1, 1)


def test_what_is_forgotten_is_gone(hands: Hands) -> None:
    memory = remembering(hands)
    memory.put("a", "one")
    memory.forget("a")
    memory.forget("never there")
    assert memory.get("a") is None
    assert memory.weight == 0


def test_many_threads_keep_its_weight_right(hands: Hands) -> None:
    memory = remembering(hands, max_weight=7)

    def use(number: int) -> None:
        memory.put(f"{number % 11}", "x", weight=1 + number % 3)
        memory.get(f"{number % 7}")
        memory.forget(f"{number % 5}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(5000)))
    assert memory.weight == sum(entry.weight for entry in memory._entries.values()) <= 7

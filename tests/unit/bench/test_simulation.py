"""The benchmark's simulation, where the outcome is plain; and its plots."""

from xml.etree import ElementTree as ET

import pytest

from bench.plots import Line, plot
from bench.simulation import Load, Simulation, latency_of

_TEXT = "{http://www.w3.org/2000/svg}text"
ONE_AT_A_TIME = Load(
    1e6, 100 / 1e6, 1, max_concurrency=1, first_pollers=1, mix=((1.0, 0.1),),
    cpu_seconds=0, bus_seconds=(0, 0), aws_seconds=0, init_seconds=0,
)  # fmt: skip


def test_one_webhook_gets_one_event_after_the_other() -> None:
    assert Simulation(ONE_AT_A_TIME).run().per_second == pytest.approx(10, rel=0.05)


def test_little_load_meets_no_limit() -> None:
    outcome = Simulation(Load(1, 60, 10)).run()
    assert outcome.limit == "none"
    assert outcome.p99 < 3


def test_more_than_the_dispatchers_can_take_waits_and_more_dispatchers_mend_that() -> None:
    few, many = (
        Simulation(Load(2_000, 10, 500, first_pollers=1_000, max_concurrency=most)).run()
        for most in (20, 1_000)
    )
    assert few.limit.startswith("DispatcherMaximumConcurrency")
    assert few.p99 > 5 * many.p99
    assert few.most_dispatchers == 20


def test_a_flood_holds_the_others_up_and_less_so_where_queues_are_fair() -> None:
    alone, flooded, fair = (
        Simulation(Load(20, 40, 50, flood=flood, fair=is_fair)).run()
        for flood, is_fair in ((0, False), (3_000, False), (3_000, True))
    )
    assert flooded.others_p99 > 2 * alone.others_p99
    assert fair.others_p99 < flooded.others_p99 / 2


def test_the_mix_is_what_it_says() -> None:
    latencies = [latency_of(account) for account in range(1_000)]
    assert latencies.count(0.1) == pytest.approx(900, abs=10)
    assert latencies.count(1.5) == pytest.approx(20, abs=5)


def test_a_plot_is_well_formed_and_holds_its_lines() -> None:
    drawn = plot("a < b", ("x", "y"), [Line("one", [(1, 10), (100, 20)]), Line("two", [(1, 1)])])
    texts = {each.text for each in ET.fromstring(drawn).iter(_TEXT)}  # noqa: S314  # ours
    assert {"a < b", "x", "y", "one", "two", "100"} <= texts

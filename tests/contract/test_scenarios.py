"""The scenarios' queues and functions have the numbers of the template."""

from tests.contract.template import FUNCTIONS, QUEUES, event_sources
from tests.scenarios.world import World


def test_the_queues_of_the_scenarios_are_those_of_the_template() -> None:
    sources = {queue: source for _, queue, source in event_sources()}
    with World() as world:
        queues = {
            "RealtimeQueue": world.realtime_queue,
            "BatchQueue": world.batch_queue,
            "DrainQueue": world.drain_queue,
            "BackgroundDrainQueue": world.background_drain_queue,
        }
    for name, queue in queues.items():
        assert queue.visibility_seconds == QUEUES[name]["VisibilityTimeout"], name
        assert queue.max_receives == QUEUES[name]["RedrivePolicy"]["maxReceiveCount"], name
        assert queue.batch_size == sources[name]["BatchSize"], name
        assert queue.window_seconds == sources[name].get("MaximumBatchingWindowInSeconds", 0), name


def test_the_functions_of_the_scenarios_live_as_long_as_those_of_the_template() -> None:
    with World() as world:
        for name, function in world.functions.items():
            assert function.timeout_seconds == FUNCTIONS[f"{name.capitalize()}Function"]["Timeout"], name

"""Only the drainer and the batch function send to a queue that invokes them, so only they may loop.

Lambda stops a chain SQS -> Lambda -> SQS after some 16 messages (Lambda guide, recursive loop detection). A
function that says `RecursiveLoop: Allow` goes on. `tests/scenarios/test_loop.py` proves what bounds the
drainer then, and `tests/unit/batch/test_sweep.py` what bounds the parts of a sweep.
"""

from tests.contract.template import FUNCTIONS, QUEUES, as_list, event_sources, names_in, statements

LOOPING = {"BatchFunction", "DrainerFunction"}


def sends_to(function: str) -> set[str]:
    """The queues that a function's role lets it send to."""
    return {
        name
        for statement in statements(function)
        if statement["Effect"] == "Allow" and "sqs:SendMessage" in as_list(statement["Action"])
        for name in names_in(statement["Resource"])
    }


def invokes(function: str) -> set[str]:
    """The functions that a function can invoke by a queue."""
    queues = sends_to(function)
    assert queues <= QUEUES.keys(), "a queue of somebody else could lead back"
    return {other for other, queue, _ in event_sources() if queue in queues}


def reached_from(function: str) -> set[str]:
    found: set[str] = set()
    left = invokes(function)
    while left:
        found |= left
        left = set().union(*map(invokes, left)) - found
    return found


def test_only_what_goes_on_by_its_own_queue_can_come_back_to_itself() -> None:
    assert {name for name in FUNCTIONS if name in reached_from(name)} == LOOPING
    assert sends_to("DrainerFunction") == {"DrainQueue", "BackgroundDrainQueue"}


def test_only_what_loops_on_purpose_is_allowed_to() -> None:
    allowed = {name for name, function in FUNCTIONS.items() if function.get("RecursiveLoop") == "Allow"}
    assert allowed == LOOPING


def test_no_function_puts_events_on_a_bus_or_invokes_another() -> None:
    """Those would be loops that go by no queue."""
    actions = {
        action
        for function in FUNCTIONS
        for statement in statements(function)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }
    assert not {each for each in actions if each.startswith(("events:", "lambda:", "states:"))}

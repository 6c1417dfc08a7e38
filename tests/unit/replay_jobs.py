"""A replay that began, and what is stored of it."""

from lms_webhooks.aws.dynamodb import KeyRange
from lms_webhooks.model.attempts import Attempt
from lms_webhooks.stores.replays import Replay, ReplayStore
from tests.unit.tables import NOW_MS

OK = Attempt(NOW_MS - 50_000, 40, 204, None)
AGAIN = Attempt(NOW_MS + 100, 40, 204, None)
EVERYTHING = KeyRange("0", ":")
STARTED = Replay(
    replay_id="rp_1",
    account_id="1010",
    webhook_id="wh_1",
    range=EVERYTHING,
    outcome=None,
    event_name=None,
    started_at_ms=NOW_MS,
    started_by="ada",
)


def stands(store: ReplayStore) -> Replay:
    found = store.find("wh_1")
    assert found is not None
    return found


def counts(store: ReplayStore) -> tuple[str, int, int, int]:
    found = stands(store)
    return found.state.value, found.read, found.delivered, found.rejected

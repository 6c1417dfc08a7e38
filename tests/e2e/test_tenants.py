"""Two accounts on one stack: neither sees, changes or gets anything of the other's."""

from collections.abc import Callable

from lms_webhooks.stores.webhooks import new_webhook_id
from tests.e2e.system import Account
from tests.fakes.receiver import Receiver


def test_an_account_does_not_see_or_change_another_s_webhooks(new_account: Callable[[], Account]) -> None:
    """By list, by id, by guess: another's webhook looks exactly like one that never was."""
    mine, theirs = new_account(), new_account()
    webhook = theirs.create("https://example.com/theirs", authentication={"type": "signature"})
    assert mine.webhooks() == []
    never_made = f"/v1/webhooks/{new_webhook_id()}"
    for method in ("GET", "DELETE"):
        by_id = mine.call(method, f"/v1/webhooks/{webhook['webhookId']}")
        by_guess = mine.call(method, never_made)
        assert by_id.status == 404
        assert by_id.body == by_guess.body
    assert [each["webhookId"] for each in theirs.webhooks()] == [webhook["webhookId"]]


def test_the_limit_of_one_account_says_nothing_about_another(new_account: Callable[[], Account]) -> None:
    mine, theirs = new_account(), new_account()
    for _ in range(5):
        theirs.create("https://example.com/theirs")
    for _ in range(5):
        mine.create("https://example.com/mine")
    for account in (mine, theirs):
        answer = account.call("POST", "/v1/webhooks", account.webhook("https://example.com/"))
        assert answer.status == 409


def test_events_reach_the_webhooks_of_their_account_alone(
    new_account: Callable[[], Account], receiver: Receiver
) -> None:
    mine, theirs = new_account(), new_account()
    for account, path in ((mine, "/mine"), (theirs, "/theirs")):
        for number in range(2):
            account.create(receiver.url(f"{path}/{number}"))
    emitted = {
        "/mine": [mine.emit()["eventId"] for _ in range(5)],
        "/theirs": [theirs.emit()["eventId"] for _ in range(5)],
    }
    assert receiver.wait_for_requests(20)
    mine.system.wait_until_done()
    for path, event_ids in emitted.items():
        for number in range(2):
            arrived = [each.event_ids[0] for each in receiver.requests_to(f"{path}/{number}")]
            assert sorted(arrived) == sorted(event_ids)
    assert len(receiver.requests) == 20


def test_an_event_that_speaks_of_another_account_in_its_data_stays_where_it_belongs(
    new_account: Callable[[], Account], receiver: Receiver
) -> None:
    mine, theirs = new_account(), new_account()
    mine.create(receiver.url("/mine"))
    theirs.create(receiver.url("/theirs"))
    mine.emit(data={"accountId": int(theirs.account_id)}, AccountId=theirs.account_id)
    assert receiver.wait_for_requests(1)
    mine.system.wait_until_done()
    assert [request.path for request in receiver.requests] == ["/mine"]

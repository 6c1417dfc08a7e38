"""Our sender, held against the conformance kit; and the kit, held against senders that are wrong."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.conformance.certificates import Certificates
from tests.conformance.rows import LONG_SECONDS, ROWS, TIMEOUT, Row, Verdict
from tests.conformance.running import Post, Result, Send, judge, run
from tests.conformance.senders import lms_webhooks_sender, plain_requests

ROW_BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def ours(certificates: Certificates) -> Send:
    return lms_webhooks_sender.make(certificates.ca_file)


@pytest.mark.parametrize(
    ("row", "scheme"),
    [pytest.param(row, scheme, id=f"{row.name}, {scheme}") for row in ROWS for scheme in row.over],
)
def test_our_sender_makes_the_best_of_what_receivers_do(
    ours: Send, row: Row, scheme: str, certificates: Certificates
) -> None:
    if row.outcomes[0] != TIMEOUT:  # ours ends it by itself: half a second may pass before, on a busy machine
        row = replace(row, deadline_seconds=LONG_SECONDS)
    report = run(ours, row, scheme, certificates)
    assert report.flaws == ()
    assert report.is_best


def test_no_two_rows_are_called_the_same() -> None:
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


# A kit that finds nothing proves nothing.


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_believing_everything_or_nothing_is_found_out(row: Row) -> None:
    allowed = {(each.verdict is Verdict.DELIVERED, each.status_code) for each in row.outcomes}
    for acknowledged, status_code in ((True, 200), (False, None)):
        report = judge(row, Result(acknowledged, status_code))
        assert not report.flaws or (acknowledged, status_code) not in allowed
        waits = row.outcomes[0].wait_seconds
        assert report.flaws or ((acknowledged, status_code) in allowed and not waits)


@pytest.mark.parametrize(
    ("name", "flaws"),
    [
        ("answer 303", ("acknowledged", "status 200 for 303", "2 requests")),
        ("truncated header", ("acknowledged", "status 200 for None")),
        ("101 upgrade", ("acknowledged", "status 101 for None")),
        ("reset in body", ("not acknowledged", "status None for 200")),
        ("answer 503, retry-after 0:02:00", ("waits 0 s for 110",)),
        ("close before answer when reused", ("not acknowledged", "status None for 200")),
        ("trickle header", ("still waits",)),
        ("endless body", ("took",)),
        ("gzip bomb", ("held",)),
        ("chunk of negative size", ("raised",)),
    ],
)
def test_what_a_plain_sender_gets_wrong_is_found(
    name: str, flaws: tuple[str, ...], certificates: Certificates
) -> None:
    report = run(plain_requests.make(certificates.ca_file), ROW_BY_NAME[name], "http", certificates)
    for flaw in flaws:
        assert any(told.startswith(flaw) for told in report.flaws), report.flaws


def test_a_sender_that_sends_nothing_is_found_out(certificates: Certificates) -> None:
    def idle(_post: Post) -> Result:
        return Result(acknowledged=True, status_code=200)

    assert run(idle, ROW_BY_NAME["answer 200"], "http", certificates).flaws == ("0 requests",)

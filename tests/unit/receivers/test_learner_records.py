"""What a receiver makes of a learner's history: the same, in whatever order the events come."""

import json
import random
import runpy
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from tests.adobe import SAMPLES
from tools.progress import REPOSITORY

PROGRAM = runpy.run_path(str(REPOSITORY / "docs" / "receivers" / "learner_records.py"))
COURSE, OTHER, PATH, CERTIFICATION = (
    "course:7374992_1", "course:7374992_2", "learningProgram:157165_3", "certification:123418_4",
)  # fmt: skip
LEARNER = 4279332

type Event = dict[str, Any]
type Rows = list[tuple[str, str, int, str]]


def happened(kind: str, instance: str, minute: float, *, batch: bool = False, form: str = "ISO") -> Event:
    """An event of the learner, so many minutes after the first. Its seconds are 00, as in August 2026."""
    lo_type = {"course": "COURSE", "learningProgram": "LEARNING_PATH", "certification": "CERTIFICATION"}
    name = f"{lo_type[instance.partition(':')[0]]}_{kind}{'_BATCH' * batch}"
    seconds = 1785744000 + int(minute) * 60
    time = {
        "seconds": seconds,
        "milliseconds": seconds * 1000,
        "ISO": f"2026-08-03T08:{int(minute):02d}:00.000Z",
    }[form]
    return {"eventName": name, "timestamp": time, "data": {"userId": LEARNER, "loInstanceId": instance}}


def progressed(instance: str, percent: int, *, minute: int, started: int = 0) -> Event:
    """The timestamp says when it was reckoned, up to a quarter of an hour late."""
    data = {
        "userId": LEARNER,
        "loInstanceId": instance,
        "dateStarted": f"2026-08-03T08:{started:02d}:00.000Z",
        "progressPercent": percent,
    }
    return {"eventName": "LEARNER_PROGRESS", "timestamp": f"2026-08-03T08:{minute:02d}:00.000Z", "data": data}


HISTORY = [
    # A course within a path within a certification: each has a record, and raises events of its own.
    happened("ENROLLMENT", CERTIFICATION, 0, batch=True),
    happened("ENROLLMENT", PATH, 0, batch=True, form="seconds"),
    happened("ENROLLMENT", COURSE, 0, batch=True),
    progressed(COURSE, 20, minute=16, started=1),
    progressed(PATH, 10, minute=16, started=1),
    progressed(COURSE, 100, minute=25, started=1),
    happened("COMPLETED", COURSE, 12),
    progressed(PATH, 60, minute=28, started=1),
    # The path is completed, and the learner refreshes its completion. Both say the same second.
    happened("COMPLETED", PATH, 20, form="milliseconds"),
    happened("COMPLETION_ROLLBACK", PATH, 20),
    # The certification is completed for the learner in the second in which they are enrolled again.
    happened("ENROLLMENT", CERTIFICATION, 30, batch=True),
    happened("COMPLETED", CERTIFICATION, 30, batch=True),
    # A session is cancelled: the learner leaves, and comes again twice with no leave between.
    happened("ENROLLMENT", OTHER, 1),
    progressed(OTHER, 30, minute=20, started=2),
    happened("UNENROLLMENT", OTHER, 5),
    happened("ENROLLMENT", OTHER, 9),
    happened("ENROLLMENT", OTHER, 14, batch=True),
    progressed(OTHER, 5, minute=21, started=15),
    {"eventName": "CI_STATS", "timestamp": 1785744000, "data": {"loInstanceId": OTHER, "seatLimit": 3}},
]
ENDS: Rows = [
    (CERTIFICATION, "completed", 0, str(LEARNER)),
    (COURSE, "completed", 100, str(LEARNER)),
    (OTHER, "started", 5, str(LEARNER)),
    (PATH, "started", 60, str(LEARNER)),
]


@pytest.fixture
def make_db() -> Iterator[Callable[[], sqlite3.Connection]]:
    made: list[sqlite3.Connection] = []

    def make() -> sqlite3.Connection:
        db = sqlite3.connect(":memory:")
        made.append(db)
        db.executescript(PROGRAM["TABLES"])
        return db

    yield make
    for db in made:
        db.close()


def ends(db: sqlite3.Connection) -> Rows:
    """The records, by instance."""
    return db.execute(
        "SELECT lo_instance_id, state, percent, user_id FROM learner_record ORDER BY lo_instance_id"
    ).fetchall()


def after(db: sqlite3.Connection, events: Sequence[Event]) -> Rows:
    """The records after these events, in this order."""
    db.execute("DELETE FROM record")
    for event in events:
        PROGRAM["apply"](db, "1010", event)
    return ends(db)


def test_a_history_ends_the_same_in_a_thousand_orders(make_db: Callable[[], sqlite3.Connection]) -> None:
    """With some of its events once more, at any place."""
    shuffler = random.Random(21)
    db = make_db()
    assert after(db, HISTORY) == ENDS
    for _ in range(1000):
        events = HISTORY + shuffler.choices(HISTORY, k=5)
        shuffler.shuffle(events)
        assert after(db, events) == ENDS, events


@pytest.mark.parametrize(
    ("events", "state", "percent"),
    [
        ([happened("COMPLETED", COURSE, 5), progressed(COURSE, 50, minute=9)], "completed", 50),
        ([progressed(COURSE, 50, minute=1), happened("ENROLLMENT", COURSE, 9)], "started", 50),
        ([progressed(COURSE, 50, minute=9), progressed(COURSE, 40, minute=10)], "started", 50),
        ([happened("UNENROLLMENT", COURSE, 5), happened("ENROLLMENT", COURSE, 4)], "unenrolled", 0),
        ([happened("UNENROLLMENT", COURSE, 5), progressed(COURSE, 50, minute=9)], "unenrolled", 50),
        ([happened("UNENROLLMENT", COURSE, 5), happened("ENROLLMENT", COURSE, 6)], "enrolled", 0),
        ([happened("COMPLETED", COURSE, 5), happened("ENROLLMENT", COURSE, 5)], "completed", 0),
        ([happened("COMPLETED", PATH, 5), happened("COMPLETION_ROLLBACK", PATH, 6)], "enrolled", 0),
        ([happened("COMPLETION_ROLLBACK", PATH, 6), happened("COMPLETED", PATH, 9)], "completed", 0),
        ([happened("COMPLETED", PATH, 7, form="seconds"), happened("UNENROLLMENT", PATH, 6)], "completed", 0),
    ],
    ids=[
        "progress after the completion is ignored",
        "an enrolment after progress is ignored",
        "progress does not go back",
        "an older enrolment comes late",
        "progress brings nobody back",
        "enrolled once more",
        "both in one second",
        "a completion is revoked",
        "and comes again",
        "the forms of a time compare",
    ],
)  # fmt: skip
def test_adobe_s_rules(
    make_db: Callable[[], sqlite3.Connection], events: list[Event], state: str, percent: int
) -> None:
    db = make_db()
    for order in (events, events[::-1]):
        assert [row[1:3] for row in after(db, order)] == [(state, percent)]


def test_every_sample_that_adobe_publishes_is_understood(make_db: Callable[[], sqlite3.Connection]) -> None:
    db = make_db()
    for sample in SAMPLES:
        for event in sample["body"]["events"]:
            PROGRAM["apply"](db, str(sample["body"]["accountId"]), event)
    with_learner = {
        (event["data"]["userId"], event["data"]["loInstanceId"])
        for sample in SAMPLES
        for event in sample["body"]["events"]
        if "userId" in event["data"]
    }
    assert len(ends(db)) == len(with_learner)


def test_the_program_goes_on_where_it_ended(make_db: Callable[[], sqlite3.Connection]) -> None:
    """From the inbox of the receivers, some events a time; what is there is not read again."""
    db = make_db()
    db.execute("CREATE TABLE inbox (account_id TEXT, event_name TEXT, event_id TEXT, event TEXT)")
    for number, event in enumerate(HISTORY):
        db.execute(
            "INSERT INTO inbox VALUES ('1010', ?, ?, ?)", (event["eventName"], number, json.dumps(event))
        )
        if number % 4 == 0:
            PROGRAM["apply_new"](db)
    for _ in range(2):
        PROGRAM["apply_new"](db)
        assert ends(db) == ENDS
    assert db.execute("SELECT up_to FROM applied").fetchall() == [(len(HISTORY),)]


def test_the_program_prints_the_records(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    database = tmp_path / "inbox.sqlite3"
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE inbox (account_id TEXT, event_name TEXT, event_id TEXT, event TEXT)")
        db.execute("INSERT INTO inbox VALUES ('1010', '', 'e', ?)", (json.dumps(HISTORY[2]),))
    monkeypatch.setenv("DATABASE", str(database))
    runpy.run_path(str(REPOSITORY / "docs" / "receivers" / "learner_records.py"), run_name="__main__")
    assert capsys.readouterr().out == f"1010 {LEARNER} {COURSE} 0 enrolled\n"

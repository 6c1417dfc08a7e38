"""python learner_records.py: keep what each learner's record says, from the inbox of Flask or FastAPI.

The order of events does not matter, and neither does an event that comes twice. So a crash is harmless too:
the events that it left are applied once more.
"""

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

DATABASE = os.environ.get("DATABASE", "inbox.sqlite3")

# What the event says of the record. Of two events of the same time, the one with the larger number counts.
STEPS = {"ENROLLMENT": 1, "COMPLETED": 2, "ROLLBACK": 3, "UNENROLLMENT": 4}

TABLES = """
CREATE TABLE IF NOT EXISTS record (
    account_id TEXT, user_id TEXT, lo_instance_id TEXT,
    step INTEGER NOT NULL DEFAULT 0, changed_at_ms INTEGER NOT NULL DEFAULT 0,
    percent INTEGER NOT NULL DEFAULT -1, started_at_ms INTEGER NOT NULL DEFAULT -1,
    PRIMARY KEY (account_id, user_id, lo_instance_id)
);
CREATE TABLE IF NOT EXISTS applied (up_to INTEGER NOT NULL);
CREATE VIEW IF NOT EXISTS learner_record AS
SELECT account_id, user_id, lo_instance_id, max(percent, 0) AS percent,
    CASE
        WHEN step = 4 THEN 'unenrolled'
        WHEN step = 2 THEN 'completed'
        WHEN percent >= 0 THEN 'started'
        ELSE 'enrolled'
    END AS state
FROM record;
"""

# The newest step counts, by the event's timestamp.
SET_STEP = """
INSERT INTO record (account_id, user_id, lo_instance_id, changed_at_ms, step) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET changed_at_ms = excluded.changed_at_ms, step = excluded.step
WHERE (excluded.changed_at_ms, excluded.step) > (record.changed_at_ms, record.step)
"""

# Progress has no place among the steps, since its timestamp is late. Of the latest start, the most counts.
SET_PROGRESS = """
INSERT INTO record (account_id, user_id, lo_instance_id, started_at_ms, percent) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET started_at_ms = excluded.started_at_ms, percent = excluded.percent
WHERE (excluded.started_at_ms, excluded.percent) > (record.started_at_ms, record.percent)
"""


def apply(db: sqlite3.Connection, account_id: str, event: dict[str, Any]) -> None:
    """Change the record that the event is about, if it is about one."""
    kind = event["eventName"].removesuffix("_BATCH").rpartition("_")[2]
    data = event.get("data") or {}
    if "userId" not in data or "loInstanceId" not in data:
        return
    record = account_id, str(data["userId"]), str(data["loInstanceId"])
    if kind in STEPS:
        db.execute(SET_STEP, (*record, milliseconds(event["timestamp"]), STEPS[kind]))
    elif event["eventName"] == "LEARNER_PROGRESS":
        started_at_ms = milliseconds(data.get("dateStarted", 0))
        db.execute(SET_PROGRESS, (*record, started_at_ms, data.get("progressPercent", 0)))


def milliseconds(time: float | str) -> int:
    """Read the forms that the platform has: epoch seconds, epoch milliseconds, ISO 8601."""
    if isinstance(time, str):
        moment = datetime.fromisoformat(time)
        time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return round(time * 1000 if time < 100_000_000_000 else time)


def apply_new(db: sqlite3.Connection) -> None:
    """Apply what came since the last time."""
    (up_to,) = db.execute("SELECT coalesce(max(up_to), 0) FROM applied").fetchone()
    for row, account_id, event in db.execute(
        "SELECT rowid, account_id, event FROM inbox WHERE rowid > ? ORDER BY rowid", (up_to,)
    ).fetchall():
        apply(db, account_id, json.loads(event))
        up_to = row
    db.execute("DELETE FROM applied")
    db.execute("INSERT INTO applied VALUES (?)", (up_to,))


if __name__ == "__main__":
    with closing(sqlite3.connect(DATABASE)) as db:
        db.executescript(TABLES)
        with db:
            apply_new(db)
        for record in db.execute("SELECT * FROM learner_record"):
            print(*record)

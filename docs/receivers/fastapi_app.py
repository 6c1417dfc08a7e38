"""pip install fastapi uvicorn standardwebhooks; WEBHOOK_SECRETS=1010=whsec_... uvicorn fastapi_app:app"""

import json
import logging
import os
import re
import sqlite3
from contextlib import closing

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

DATABASE = os.environ.get("DATABASE", "inbox.sqlite3")
MAX_BYTES = 256 * 1024  # of a request; FastAPI by itself takes any
ENTRY = re.compile(r"([A-Za-z0-9._:@-]+)=(whsec_[A-Za-z0-9+/]{43}=)")


def read_secrets(text: str) -> list[tuple[str, Webhook]]:
    """`<account>=<secret>`, separated by spaces: one or more of each account that sends to this receiver."""
    found = [ENTRY.fullmatch(entry) for entry in text.split()]
    if not found or None in found:
        raise SystemExit(
            f"WEBHOOK_SECRETS: entry {found.index(None) + 1 if found else 1} is not <account>=<secret>."
            " Copy the secret as the API gave it: whsec_ and 44 characters of base64, without quotes."
        )
    return [(entry[1], Webhook(entry[2])) for entry in found if entry]


VERIFIERS = read_secrets(os.environ.get("WEBHOOK_SECRETS", ""))

logger = logging.getLogger("uvicorn.error")
app = FastAPI()

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute(
        "CREATE TABLE IF NOT EXISTS inbox (account_id TEXT, event_name TEXT, event_id TEXT, event TEXT,"
        " PRIMARY KEY (account_id, event_name, event_id))"
    )


@app.post("/hooks")
async def receive(request: Request) -> Response:
    body = b""  # no model as a parameter: the signature is of the bytes as they came
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            return refuse(413, "larger than any request")
    try:
        account_id = verify(body, dict(request.headers))
        rows = read(account_id, body)
    except WebhookVerificationError as error:
        return refuse(401, str(error))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return refuse(422, f"signed, but not readable: {type(error).__name__}")
    if not request.headers["webhook-id"].startswith("test_"):  # a test: nothing happened
        await run_in_threadpool(store, rows)
    # Another process works on the inbox.
    return Response(status_code=204)


def refuse(status: int, reason: str) -> Response:
    """Say why, to the admin who sends a test and in the log."""
    logger.warning("refused with %d: %s", status, reason)
    return Response(reason, status)


def verify(body: bytes, headers: dict[str, str]) -> str:
    """The account whose secret signed this within the last five minutes."""
    refusal = WebhookVerificationError("Invalid Signature Headers")
    for account_id, verifier in VERIFIERS:
        try:
            verifier.verify(body, headers, json_parse=False)
        except WebhookVerificationError as error:
            refusal = error
        except ValueError:  # what is no signature, or no UTF-8
            continue
        else:
            return account_id
    raise refusal


def read(account_id: str, body: bytes) -> list[tuple[str, str, str, str]]:
    """A row for each event. Who has the secret of one account says nothing about another."""
    message = json.loads(body)
    if str(message["accountId"]) != account_id:
        raise WebhookVerificationError("Signed by the secret of another account")
    return [
        (account_id, str(event["eventName"]), str(event["eventId"]), json.dumps(event))
        for event in message["events"]
    ]


def store(rows: list[tuple[str, str, str, str]]) -> None:
    """Keep all events or, if this raises, none; those that came before are there already."""
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.executemany("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?, ?)", rows)

"""pip install fastapi uvicorn standardwebhooks; WEBHOOK_SECRETS=whsec_... uvicorn fastapi_app:app"""

import json
import os
import sqlite3
from contextlib import closing
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

# Separated by spaces: the old and the new one while you change it, or those of several webhooks.
VERIFIERS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRETS"].split()]
DATABASE = os.environ.get("DATABASE", "inbox.sqlite3")

app = FastAPI()

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS inbox (event_id TEXT PRIMARY KEY, account_id TEXT, event TEXT)")


@app.post("/hooks")
async def receive(request: Request) -> Response:
    # No model as a parameter: the signature is of the bytes as they came.
    message = verified(await request.body(), dict(request.headers))
    if message is None:
        return Response(status_code=401)
    await run_in_threadpool(store, message)
    # Another process works on the inbox, and skips ids that start with test-.
    return Response(status_code=204)


def verified(body: bytes, headers: dict[str, str]) -> Any:
    """The message, if one of the secrets signed it within the last five minutes."""
    for verifier in VERIFIERS:
        try:
            return verifier.verify(body, headers)
        except (WebhookVerificationError, ValueError):  # ValueError: what is no signature, or no UTF-8
            continue
    return None


def store(message: Any) -> None:
    """Keep all events or, if this raises, none; those that came before are there already."""
    rows = [(event["eventId"], message["accountId"], json.dumps(event)) for event in message["events"]]
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.executemany("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)", rows)

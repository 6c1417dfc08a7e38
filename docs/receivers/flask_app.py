"""pip install flask standardwebhooks; WEBHOOK_SECRETS=whsec_... flask --app flask_app run"""

import json
import os
import sqlite3
from contextlib import closing
from typing import Any

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

# Separated by spaces: the old and the new one while you change it, or those of several webhooks.
VERIFIERS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRETS"].split()]
DATABASE = os.environ.get("DATABASE", "inbox.sqlite3")

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 256 * 1024  # no request is larger

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS inbox (event_id TEXT PRIMARY KEY, account_id TEXT, event TEXT)")


@app.post("/hooks")
def receive() -> tuple[str, int]:
    message = verified(request.get_data(), dict(request.headers))  # the bytes as they came
    if message is None:
        return "", 401
    store(message)
    # Another process works on the inbox, and skips ids that start with test-.
    return "", 204


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

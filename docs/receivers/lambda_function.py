"""Behind a function URL (auth type NONE: the signature is the proof). In the package: standardwebhooks.

WEBHOOK_SECRETS is 1010=whsec_... The table INBOX has the hash key `key` (text), and expiresAt for its TTL. A
stream of it starts the work: a put that is refused leaves nothing there. The role needs dynamodb:PutItem.
"""

import base64
import json
import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import boto3
from standardwebhooks import Webhook, WebhookVerificationError

KEEP_SECONDS = 60 * 86_400  # events are tried for 7 days, and sent again on request for 30 more
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

logger = logging.getLogger(__name__)
dynamodb = boto3.client("dynamodb")


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    text = event.get("body", "")
    body = base64.b64decode(text) if event["isBase64Encoded"] else text.encode()
    try:
        account_id = verify(body, event["headers"])
        rows = read(account_id, body)
    except WebhookVerificationError as error:
        return refuse(401, str(error))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return refuse(422, f"signed, but not readable: {type(error).__name__}")
    if not event["headers"]["webhook-id"].startswith("test_"):  # a test: nothing happened
        with ThreadPoolExecutor(10) as pool:  # up to 100 events, and five seconds
            list(pool.map(store, rows))
    return {"statusCode": 204}


def refuse(status: int, reason: str) -> dict[str, Any]:
    """Say why, to the admin who sends a test and in the log."""
    logger.warning("refused with %d: %s", status, reason)
    return {"statusCode": status, "body": reason}


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


def store(row: tuple[str, str, str, str]) -> None:
    """Keep an event, unless it came before. What raises becomes a 502, and the events come again."""
    account_id, event_name, event_id, text = row
    item = {
        "key": {"S": f"{account_id} {event_name} {event_id}"},
        "event": {"S": text},
        "expiresAt": {"N": str(int(time.time()) + KEEP_SECONDS)},
    }
    with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(
            TableName=os.environ["INBOX"],
            Item=item,
            ConditionExpression="attribute_not_exists(#key)",
            ExpressionAttributeNames={"#key": "key"},
        )

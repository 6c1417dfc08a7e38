"""Behind a function URL (auth type NONE: the signature is the proof). In the package: standardwebhooks.

The table INBOX has the key eventId (text), and expiresAt for its TTL. A stream of it starts the work: a put
that is refused leaves nothing there. The role needs dynamodb:PutItem.
"""

import base64
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import boto3
from standardwebhooks import Webhook, WebhookVerificationError

# Separated by spaces: the old and the new one while you change it, or those of several webhooks.
VERIFIERS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRETS"].split()]
KEEP_SECONDS = 60 * 86_400  # events are tried for 7 days, and sent again on request for 30 more

dynamodb = boto3.client("dynamodb")


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    body = event.get("body", "")
    raw = base64.b64decode(body) if event["isBase64Encoded"] else body.encode()
    message = verified(raw, event["headers"])
    if message is None:
        return {"statusCode": 401}
    with ThreadPoolExecutor(10) as pool:  # up to 100 events, and five seconds
        list(pool.map(lambda each: store(message["accountId"], each), message["events"]))
    return {"statusCode": 204}


def verified(body: bytes, headers: dict[str, str]) -> Any:
    """The message, if one of the secrets signed it within the last five minutes."""
    for verifier in VERIFIERS:
        try:
            return verifier.verify(body, headers)
        except (WebhookVerificationError, ValueError):  # ValueError: what is no signature, or no UTF-8
            continue
    return None


def store(account_id: int, event: dict[str, Any]) -> None:
    """Keep an event, unless it came before. What raises becomes a 502, and the events come again."""
    item = {
        "eventId": {"S": event["eventId"]},
        "accountId": {"S": str(account_id)},
        "event": {"S": json.dumps(event)},
        "expiresAt": {"N": str(int(time.time()) + KEEP_SECONDS)},
    }
    with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(
            TableName=os.environ["INBOX"], Item=item, ConditionExpression="attribute_not_exists(eventId)"
        )

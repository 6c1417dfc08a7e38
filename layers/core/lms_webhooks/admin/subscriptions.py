"""Have people mailed about an account's webhooks: the only module for these items, and for SNS subscriptions.

| pk                        | sk       | what                                                              |
|---------------------------|----------|-------------------------------------------------------------------|
| SUBSCRIPTIONS#<accountId> | MAIL     | whom the account has mailed, by subscription id                   |
| SUBSCRIBER#<mail address> | ACCOUNTS | the accounts that have it mailed, and its subscription of SNS     |

SNS has one subscription of an address to a topic. So accounts that have the same person mailed share it, and
its filter names them all. The filter is written from the second item until that has not changed meanwhile.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.send_limit import SendLimit
from lms_webhooks.dynamodb import Table, holds, key_item
from lms_webhooks.observability import logger
from lms_webhooks.problems import Busy, NoSuchSubscription, TooManySubscriptions
from lms_webhooks.webhooks import rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef
    from mypy_boto3_sns import SNSClient

    type Item = dict[str, AttributeValueTypeDef]

MAX_SUBSCRIPTIONS = 10  # of an account: a team; a mailing list is one address
_MAX_ACCOUNTS = 100  # that share an address: a filter policy takes 150 values
_TRIES = 5


class SubscriptionStatus(StrEnum):
    """Whether somebody is mailed. SNS first mails them a link to confirm with, good for two days."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    ENDED = "ended"
    """They never confirmed, or followed the link in a notice that ends it."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Somebody who is mailed about an account's webhooks."""

    subscription_id: str
    email: str
    created_at: str
    created_by: str
    status: SubscriptionStatus = SubscriptionStatus.PENDING


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Subscriptions:
    """Who is mailed about every account's webhooks; each call is for one caller's account."""

    def __init__(
        self,
        table: Table,
        client: "SNSClient",
        topic_arn: str,
        limit: SendLimit,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._table = table
        self._client = client
        self._topic_arn = topic_arn
        self._limit = limit
        self._now = now

    def all(self, caller: Caller) -> list[Subscription]:
        """Who is mailed about the webhooks of the caller's account, oldest first, with what SNS says."""
        return [
            replace(each, status=self._status(caller.account_id, each.email))
            for each in self._read(caller.account_id).values()
        ]

    def add(self, caller: Caller, email: str) -> Subscription:
        """Have `email` mailed. Where they have not confirmed yet, this asks them once more.

        Raises:
            TooManySubscriptions: the account, or the address, has all that it may have.
            TooManySends: as the limit does.
            Busy: others of the account change the same at this moment.
        """
        account_id = caller.account_id
        fresh = Subscription(
            subscription_id="ns_" + secrets.token_urlsafe(16),
            email=email,
            created_at=rfc3339(self._now()),
            created_by=caller.user_id,
        )

        def with_it(known: dict[str, Subscription]) -> dict[str, Subscription]:
            if any(each.email == email for each in known.values()):
                return known
            if len(known) >= MAX_SUBSCRIPTIONS:
                raise TooManySubscriptions(MAX_SUBSCRIPTIONS)
            return known | {fresh.subscription_id: fresh}

        self._limit.take(account_id)
        # The address first: one that SNS refuses must not stay in the account's list.
        with_it(self._read(account_id))
        if not self._share(email, account_id):
            raise TooManySubscriptions(MAX_SUBSCRIPTIONS)
        self._apply(email)
        known = self._change(account_id, with_it)
        subscription = next(each for each in known.values() if each.email == email)
        audit(caller, "notice-subscription.create", subscriptionId=subscription.subscription_id)
        return replace(subscription, status=self._status(account_id, email))

    def remove(self, caller: Caller, subscription_id: str) -> None:
        """Have somebody mailed no more.

        Raises:
            NoSuchSubscription: the account has none by this id.
            Busy: as `add`.
        """
        found = self._read(caller.account_id).get(subscription_id)
        if found is None:
            raise NoSuchSubscription
        self._unshare(found.email, caller.account_id)
        self._apply(found.email)
        # The list last: whoever dies before finds it there still, and removes it again.
        self._change(
            caller.account_id,
            lambda known: {key: each for key, each in known.items() if key != subscription_id},
        )
        audit(caller, "notice-subscription.delete", subscriptionId=subscription_id)

    def _apply(self, email: str) -> None:
        """Make SNS mail `email` about the accounts that want it, and about no other."""
        for _ in range(_TRIES):
            accounts, arn = self._sharers(email)
            if accounts:
                self._remember(email, self._subscribe(email, accounts, arn))
            elif arn:
                self._unsubscribe(arn)
            if self._sharers(email)[0] == accounts:
                return
        raise Busy

    def _subscribe(self, email: str, accounts: list[str], arn: str) -> str:
        policy = json.dumps({"accountId": accounts})
        if arn:
            with suppress(self._client.exceptions.NotFoundException):  # it has ended: it begins anew below
                self._client.set_subscription_attributes(
                    SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue=policy
                )
        # Of one that exists this answers the ARN; where that is not confirmed, SNS sends the link again.
        return self._client.subscribe(
            TopicArn=self._topic_arn,
            Protocol="email",
            Endpoint=email,
            Attributes={"FilterPolicy": policy},
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]

    def _unsubscribe(self, arn: str) -> None:
        try:
            self._client.unsubscribe(SubscriptionArn=arn)
        except self._client.exceptions.InvalidParameterException:
            # Not confirmed yet: SNS takes it away by itself after two days, and mails nothing until then.
            logger.info("subscription left to end by itself", subscriptionArn=arn)

    def _status(self, account_id: str, email: str) -> SubscriptionStatus:
        accounts, arn = self._sharers(email)
        if account_id not in accounts or not arn:
            return SubscriptionStatus.ENDED
        try:
            answer = self._client.get_subscription_attributes(SubscriptionArn=arn)
        except self._client.exceptions.NotFoundException:
            return SubscriptionStatus.ENDED
        is_pending = answer["Attributes"].get("PendingConfirmation") == "true"
        return SubscriptionStatus.PENDING if is_pending else SubscriptionStatus.CONFIRMED

    def _read(self, account_id: str) -> dict[str, Subscription]:
        return _subscriptions(self._get(f"SUBSCRIPTIONS#{account_id}", "MAIL"))

    def _change(
        self,
        account_id: str,
        change: Callable[[dict[str, Subscription]], dict[str, Subscription]],
    ) -> dict[str, Subscription]:
        """Write what `change` makes of the account's list, as nobody changed it meanwhile; answer that."""
        for _ in range(_TRIES):
            item = self._get(f"SUBSCRIPTIONS#{account_id}", "MAIL")
            known = _subscriptions(item)
            changed = change(known)
            if changed == known or self._put(account_id, changed, over=item):
                return changed
        raise Busy

    def _put(self, account_id: str, subscriptions: dict[str, Subscription], *, over: "Item") -> bool:
        condition = "attribute_not_exists(pk)"
        expected: dict[str, AttributeValueTypeDef] = {}
        if over:
            condition = "subscriptions = :expected"
            expected = {":expected": over["subscriptions"]}
        return holds(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item((f"SUBSCRIPTIONS#{account_id}", "MAIL")),
                UpdateExpression="SET subscriptions = :subscriptions",
                ConditionExpression=condition,
                ExpressionAttributeValues={
                    ":subscriptions": {"M": {key: _map(each) for key, each in subscriptions.items()}},
                    **expected,
                },
            ),
            self._table.client,
        )

    def _sharers(self, email: str) -> tuple[list[str], str]:
        """The accounts that have `email` mailed, and the ARN of the subscription; "" when there was none."""
        item = self._get(f"SUBSCRIBER#{email}", "ACCOUNTS")
        accounts = sorted(item["accounts"]["SS"]) if "accounts" in item else []
        return accounts, item["arn"]["S"] if "arn" in item else ""

    def _share(self, email: str, account_id: str) -> bool:
        return holds(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=key_item((f"SUBSCRIBER#{email}", "ACCOUNTS")),
                UpdateExpression="ADD accounts :account",
                ConditionExpression=(
                    "attribute_not_exists(accounts) OR contains(accounts, :one) OR size(accounts) < :most"
                ),
                ExpressionAttributeValues={
                    ":account": {"SS": [account_id]},
                    ":one": {"S": account_id},
                    ":most": {"N": str(_MAX_ACCOUNTS)},
                },
            ),
            self._table.client,
        )

    def _unshare(self, email: str, account_id: str) -> None:
        self._table.client.update_item(
            TableName=self._table.name,
            Key=key_item((f"SUBSCRIBER#{email}", "ACCOUNTS")),
            UpdateExpression="DELETE accounts :account",
            ExpressionAttributeValues={":account": {"SS": [account_id]}},
        )

    def _remember(self, email: str, arn: str) -> None:
        self._table.client.update_item(
            TableName=self._table.name,
            Key=key_item((f"SUBSCRIBER#{email}", "ACCOUNTS")),
            UpdateExpression="SET arn = :arn",
            ExpressionAttributeValues={":arn": {"S": arn}},
        )

    def _get(self, partition: str, sort_key: str) -> "Item":
        answer = self._table.client.get_item(
            TableName=self._table.name, Key=key_item((partition, sort_key)), ConsistentRead=True
        )
        return answer.get("Item", {})


def _map(subscription: Subscription) -> "AttributeValueTypeDef":
    return {
        "M": {
            "email": {"S": subscription.email},
            "created_at": {"S": subscription.created_at},
            "created_by": {"S": subscription.created_by},
        }
    }


def _subscriptions(item: "Item") -> dict[str, Subscription]:
    if not item:
        return {}
    found = [
        Subscription(
            subscription_id=subscription_id,
            email=each["M"]["email"]["S"],
            created_at=each["M"]["created_at"]["S"],
            created_by=each["M"]["created_by"]["S"],
        )
        for subscription_id, each in item["subscriptions"]["M"].items()
    ]
    return {
        each.subscription_id: each
        for each in sorted(found, key=lambda one: (one.created_at, one.subscription_id))
    }

"""Manage who gets notifications by mail: the only module for these items, and for SNS subscriptions.

| pk                        | sk   | what                                            |
|---------------------------|------|-------------------------------------------------|
| SUBSCRIPTIONS#<accountId> | MAIL | the mail addresses of the account, by id        |

Each account has an SNS topic of its own, made for its first subscription. A topic has an address once. On one
topic for all, accounts that mail the same person would share that person's confirmation, and its end.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from lms_webhooks.admin.audit import audit
from lms_webhooks.admin.caller import Caller
from lms_webhooks.admin.problems import (
    FieldError,
    InvalidFields,
    MailLimitExceeded,
    SubscriptionLimitExceeded,
    SubscriptionNotFound,
)
from lms_webhooks.admin.rate_limit import SendRateLimit
from lms_webhooks.aws.dynamodb import Table, conditional_write, key_item
from lms_webhooks.aws.sns import account_topic
from lms_webhooks.errors import Contention
from lms_webhooks.observability import logger
from lms_webhooks.timestamps import format_time, utc_now

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef
    from mypy_boto3_sns import SNSClient

    type Item = dict[str, AttributeValueTypeDef]
    type Known = dict[str, "Subscription"]

MAX_SUBSCRIPTIONS = 10  # of an account: a team; a mailing list is one address
_TRIES = 5


class SubscriptionStatus(StrEnum):
    """The status of a subscription. SNS first mails a link to confirm with, good for two days."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    ENDED = "ended"
    """The person did not confirm, or the unsubscribe link in a mail was opened, perhaps by a mail scanner.

    The link needs no credentials, unless the subscription was confirmed with `AuthenticateOnUnsubscribe` (SNS
    API). That takes the token that only the person's mail has, so this module cannot do it.
    """


@dataclass(frozen=True, slots=True)
class Subscription:
    """A person who gets notifications by mail."""

    subscription_id: str
    email: str
    created_at: str
    created_by: str
    arn: str = ""
    """Of the SNS subscription; empty until SNS has made it."""
    status: SubscriptionStatus = SubscriptionStatus.PENDING


class Subscriptions:
    """The notification subscriptions of every account. Each method acts on one caller's account."""

    def __init__(
        self,
        table: Table,
        client: "SNSClient",
        topic_arn: str,
        rate_limit: SendRateLimit,
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`topic_arn` is the topic of all notifications. The topics of accounts are named after it."""
        self._table = table
        self._client = client
        self._topic_arn = topic_arn
        self._rate_limit = rate_limit
        self._now = now

    def list_all(self, caller: Caller) -> list[Subscription]:
        """Return the subscriptions of the caller's account, oldest first, with their status at SNS."""
        return [self._with_status(each) for each in _known(self._item(caller.account_id)).values()]

    def add(self, caller: Caller, email: str) -> Subscription:
        """Subscribe `email`. If the person has not confirmed yet, this mails another link.

        Raises:
            InvalidFields: SNS does not mail such an address.
            SubscriptionLimitExceeded: the account has all that it may have.
            RateLimited, MailLimitExceeded: as `SendRateLimit`.
            Contention: other calls change the same list at this moment.
        """
        account_id = caller.account_id
        self._rate_limit.consume(account_id)
        fresh = Subscription(
            subscription_id="ns_" + secrets.token_urlsafe(16),
            email=email,
            created_at=format_time(self._now()),
            created_by=caller.user_id,
        )

        def with_it(known: "Known") -> "Known":
            if any(each.email == email for each in known.values()):
                return known
            if len(known) >= MAX_SUBSCRIPTIONS:
                raise SubscriptionLimitExceeded(MAX_SUBSCRIPTIONS)
            return known | {fresh.subscription_id: fresh}

        # The list first. If the call ends after it, the list shows an ended one; a repeat fixes that.
        known = self._change(account_id, with_it)
        added = next(each for each in known.values() if each.email == email)
        try:
            if self._status(added.arn) is not SubscriptionStatus.CONFIRMED:  # then SNS mails a link
                self._rate_limit.consume_mail(account_id, email)
            arn = self._subscribe(account_id, email)
        except (MailLimitExceeded, self._client.exceptions.InvalidParameterException) as error:
            if added.subscription_id == fresh.subscription_id:
                self._change(account_id, lambda known: _without(known, fresh.subscription_id))
            if isinstance(error, MailLimitExceeded):
                raise
            raise InvalidFields((FieldError("/email", "must be an address that SNS can mail"),)) from None
        added = replace(added, arn=arn)
        self._change(account_id, lambda known: known | {added.subscription_id: added})
        audit(caller, "notice-subscription.create", subscriptionId=added.subscription_id)
        return self._with_status(added)

    def remove(self, caller: Caller, subscription_id: str) -> None:
        """Remove a subscription.

        Raises:
            SubscriptionNotFound: the account has no such subscription.
            Contention: as `add`.
        """
        found = _known(self._item(caller.account_id)).get(subscription_id)
        if found is None:
            raise SubscriptionNotFound
        if found.arn:
            self._unsubscribe(found.arn)
        # The list last. If the call ends before, the subscription is still there, to be removed again.
        self._change(caller.account_id, lambda known: _without(known, subscription_id))
        audit(caller, "notice-subscription.delete", subscriptionId=subscription_id)

    def _subscribe(self, account_id: str, email: str) -> str:
        """Subscribe at SNS, and return the ARN. An unconfirmed subscription gets the link again."""
        name = account_topic(self._topic_arn, account_id).rpartition(":")[2]
        topic_arn = self._client.create_topic(Name=name)["TopicArn"]
        self._client.set_topic_attributes(
            TopicArn=topic_arn, AttributeName="Policy", AttributeValue=_policy(topic_arn)
        )
        return self._client.subscribe(
            TopicArn=topic_arn, Protocol="email", Endpoint=email, ReturnSubscriptionArn=True
        )["SubscriptionArn"]

    def _unsubscribe(self, arn: str) -> None:
        try:
            self._client.unsubscribe(SubscriptionArn=arn)
        except self._client.exceptions.InvalidParameterException:
            # Not confirmed yet, so SNS keeps it for up to two days. If confirmed after this, it gets nothing.
            logger.info("subscription silenced, to end by itself", subscriptionArn=arn)
            with suppress(self._client.exceptions.NotFoundException):
                self._client.set_subscription_attributes(
                    SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue='{"accountId": ["-"]}'
                )

    def _with_status(self, subscription: Subscription) -> Subscription:
        return replace(subscription, status=self._status(subscription.arn))

    def _status(self, arn: str) -> SubscriptionStatus:
        if not arn:
            return SubscriptionStatus.ENDED
        try:
            response = self._client.get_subscription_attributes(SubscriptionArn=arn)
        except self._client.exceptions.NotFoundException:
            return SubscriptionStatus.ENDED
        is_pending = response["Attributes"].get("PendingConfirmation") == "true"
        return SubscriptionStatus.PENDING if is_pending else SubscriptionStatus.CONFIRMED

    def _change(self, account_id: str, change: "Callable[[Known], Known]") -> "Known":
        """Apply `change` to the account's list, on condition that it is the one read. Return the new list."""
        for _ in range(_TRIES):
            item = self._item(account_id)
            known = _known(item)
            changed = change(known)
            if changed == known or self._put(account_id, changed, over=item):
                return changed
        raise Contention

    def _put(self, account_id: str, subscriptions: "Known", *, over: "Item") -> bool:
        condition = "attribute_not_exists(pk)"
        expected: dict[str, AttributeValueTypeDef] = {}
        if over:
            condition = "subscriptions = :expected"
            expected = {":expected": over["subscriptions"]}
        return conditional_write(
            lambda: self._table.client.update_item(
                TableName=self._table.name,
                Key=_key(account_id),
                UpdateExpression="SET subscriptions = :subscriptions",
                ConditionExpression=condition,
                ExpressionAttributeValues={
                    ":subscriptions": {"M": {key: _map(each) for key, each in subscriptions.items()}},
                    **expected,
                },
            ),
            self._table.client,
        )

    def _item(self, account_id: str) -> "Item":
        response = self._table.client.get_item(
            TableName=self._table.name, Key=_key(account_id), ConsistentRead=True
        )
        return response.get("Item", {})


def _policy(topic_arn: str) -> str:
    """Return the policy by which only IAM roles decide. By SNS's own, all of the AWS account may publish."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "RolesDecide",
                    "Effect": "Allow",
                    "Principal": {
                        "AWS": f"arn:{topic_arn.split(':')[1]}:iam::{topic_arn.split(':')[4]}:root"
                    },
                    "Action": "sns:Publish",
                    "Resource": topic_arn,
                }
            ],
        }
    )


def _key(account_id: str) -> "Item":
    return key_item((f"SUBSCRIPTIONS#{account_id}", "MAIL"))


def _without(known: "Known", subscription_id: str) -> "Known":
    return {key: each for key, each in known.items() if key != subscription_id}


def _map(subscription: Subscription) -> "AttributeValueTypeDef":
    return {
        "M": {
            "email": {"S": subscription.email},
            "arn": {"S": subscription.arn},
            "created_at": {"S": subscription.created_at},
            "created_by": {"S": subscription.created_by},
        }
    }


def _known(item: "Item") -> "Known":
    if not item:
        return {}
    found = [
        Subscription(
            subscription_id=subscription_id,
            email=each["M"]["email"]["S"],
            created_at=each["M"]["created_at"]["S"],
            created_by=each["M"]["created_by"]["S"],
            arn=each["M"]["arn"]["S"],
        )
        for subscription_id, each in item["subscriptions"]["M"].items()
    ]
    return {
        each.subscription_id: each
        for each in sorted(found, key=lambda one: (one.created_at, one.subscription_id))
    }

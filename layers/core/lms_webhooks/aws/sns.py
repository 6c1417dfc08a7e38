"""Name the SNS topics of accounts."""

import hashlib


def account_topic(topic_arn: str, account_id: str) -> str:
    """Return the ARN of the topic of one account, named after the topic of all notifications.

    The name contains a hash, because a topic's name allows fewer characters than an account's id.
    """
    return f"{topic_arn}-{hashlib.sha256(account_id.encode()).hexdigest()[:32]}"

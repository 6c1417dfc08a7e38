"""Name the SNS topics of accounts."""

import hashlib


def account_topic(topic_arn: str, account_id: str) -> str:
    """The ARN of the topic of one account, named after that of all notices. A topic's name takes less than an
    account's id does."""
    return f"{topic_arn}-{hashlib.sha256(account_id.encode()).hexdigest()[:32]}"

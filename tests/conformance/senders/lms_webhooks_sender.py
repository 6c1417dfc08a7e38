"""The sender of this repository, as its dispatcher uses it. The only part of the kit that knows it."""

import time
from pathlib import Path

from lms_webhooks.model.attempts import classify
from lms_webhooks.model.retry import retry_after_seconds
from lms_webhooks.sending.sender import Sender, Timeouts
from lms_webhooks.sending.webhook_request import WebhookRequest
from tests.conformance.rows import Fault, Verdict
from tests.conformance.running import Post, Result, Send


def make(ca_file: Path) -> Send:
    """A sender that trusts `ca_file`."""
    sender = Sender(loopback_allowed=True, trusted_ca_file=str(ca_file))

    def send(post: Post) -> Result:
        seconds = post.deadline_seconds
        answer = sender.post(
            WebhookRequest(post.url, {}, post.body), timeouts=Timeouts(seconds, seconds, seconds)
        )
        return Result(
            answer.is_success,
            answer.status_code,
            retry_after_seconds(answer.retry_after, status_code=answer.status_code, now_seconds=time.time()),
            Verdict(classify(answer.status_code)),
            Fault(answer.error_class) if answer.error_class else None,
        )

    return send

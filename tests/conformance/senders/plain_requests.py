"""What is often written: requests, a time-out, and `response.ok`."""

from pathlib import Path

import requests

from tests.conformance.running import Post, Result, Send


def make(ca_file: Path) -> Send:
    """A sender that trusts `ca_file`."""
    session = requests.Session()

    def send(post: Post) -> Result:
        try:
            response = session.post(
                post.url, data=post.body, timeout=post.deadline_seconds, verify=str(ca_file)
            )
        except requests.RequestException:
            return Result(acknowledged=False, status_code=None)
        wait = response.headers.get("retry-after", "")
        return Result(response.ok, response.status_code, float(wait) if wait.isdigit() else None)

    return send

"""What the README shows of `make listen` and `make emit` is what its reader sees."""

import os
import re
import subprocess
import sys

from local.emit import make_event
from local.emulator_process import free_port
from tests.commands.surroundings import OWN_CODE
from tests.contract.test_documents import README, fenced
from tests.e2e.system import Account

_WITH_ITS_SIZE = re.compile(r"content-length: (\d+)")
_ANEW_EACH_TIME = [
    (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<event id>"),
    (r"webhook-timestamp: \d{10}\n", "webhook-timestamp: <time>\n"),
    (r"\"timestamp\": \d{13},", '"timestamp": <time>,'),
    (r"v1,[A-Za-z0-9+/]{43}=", "v1,<signature>"),
]


def test_a_listener_prints_the_request_that_the_readme_shows(account: Account) -> None:
    port = free_port()
    created = account.create(
        f"http://127.0.0.1:{port}/", authentication={"type": "signature"}, events=["COURSE_ENROLLMENT"]
    )
    secret = created["authentication"]["secret"]
    command = [sys.executable, "-m", "local", "listen", "--port", str(port), "--secret", secret]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | OWN_CODE) as listener:
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == f"Listening at http://127.0.0.1:{port}/  (Ctrl-C ends)\n"
            account.system.put(make_event("COURSE_ENROLLMENT", account.account_id))
            printed = ""
            while '"accountId"' not in printed:
                line = listener.stdout.readline()
                assert line, "it ended"
                printed += line
        finally:
            listener.terminate()
    (shown,) = fenced(README, "text")
    longer = len(account.account_id) - len("1010")
    printed = printed.lstrip("\n").replace(f'"accountId":{account.account_id}', '"accountId":1010')
    printed = _WITH_ITS_SIZE.sub(lambda size: f"content-length: {int(size[1]) - longer}", printed)
    assert _what_stays(printed) == _what_stays(shown)


def _what_stays(text: str) -> str:
    for pattern, name in _ANEW_EACH_TIME:
        text = re.sub(pattern, name, text)
    return text

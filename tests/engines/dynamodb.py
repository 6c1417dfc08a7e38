"""What the tests of stores run on: moto, and Amazon's own DynamoDB Local. Neither knows of the other.

A test gets its engine from the fixture `dynamodb`, which runs it once on each. DynamoDB Local knows each
operation that a store calls, so no test is left out. What neither engine does, tests raise by themselves:
conflicts of transactions, throttling, unprocessed items, stale reads, and the removal of items by TTL.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from moto import mock_aws

from lms_webhooks.aws import clients
from tools.progress import REPOSITORY, STATE_DIR

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "us-east-1"
type Engine = Callable[[], AbstractContextManager[DynamoDBClient]]
"""Opens a DynamoDB without tables, and removes at its end what was made in it."""

_ENVIRONMENT = STATE_DIR / "dynamodb"
_PROGRAM = Path(__file__).with_name("dynamodb_local.py")


@contextmanager
def moto() -> "Iterator[DynamoDBClient]":
    """Open moto's DynamoDB. The other services of moto are there meanwhile."""
    with mock_aws():
        # boto3 would compose its own name twice for each call.
        client = boto3.client("dynamodb", region_name=REGION, config=Config(user_agent="tests"))
        yield clients.encode_batches(client)


class DynamoDbLocal:
    """DynamoDB Local as a process, for as long as the context lasts. Calling it opens a DynamoDB in it."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            RuntimeError: it is not installed, or it ended at once.
        """
        if not (_ENVIRONMENT / "ready").exists():
            name = _ENVIRONMENT.relative_to(REPOSITORY)
            raise RuntimeError(f"DynamoDB Local is not installed: `make {name}/ready` does it")
        # It ends with its standard input, so also when this process is killed.
        self._process = subprocess.Popen(
            [_ENVIRONMENT / "bin" / "python", "-P", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if line.startswith("port "):
                self._endpoint_url = f"http://127.0.0.1:{int(line.split()[1])}"
                return self
        self.__exit__()
        raise RuntimeError(f"DynamoDB Local did not start: {''.join(said)}")

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @contextmanager
    def __call__(self) -> "Iterator[DynamoDBClient]":
        """Open a DynamoDB with a client like the functions', which leaves refusals to DynamoDB.

        The tables of each access key are apart. A key is used again: each takes 0.3 MB for good.
        """
        key = next(key for number in count(1) if (key := f"test{number}") not in self._open)
        self._open.add(key)
        client = boto3.client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=self._endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key="unused",
            # Patient, or a call on a busy machine would be made again, and its condition would not hold.
            config=clients._CONFIG.merge(Config(read_timeout=60)),
        )
        yield clients.encode_batches(client)
        for name in client.list_tables()["TableNames"]:
            client.delete_table(TableName=name)
        client.close()
        self._open.remove(key)

"""The layer ships less of botocore's data than botocore does: what is left must mean the same."""

import importlib.util
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.loaders import Loader
from botocore.session import Session

from tools.progress import REPOSITORY

_LAYER = REPOSITORY / "layers" / "core"
_SERVICES = re.search(r"^AWS_SERVICES := (.+)$", (_LAYER / "Makefile").read_text(), re.MULTILINE)
assert _SERVICES is not None
SERVICES = _SERVICES[1].split()
_CALLS = {
    "dynamodb": "list_tables",
    "kms": "list_keys",
    "sns": "list_topics",
    "sqs": "list_queues",
    "sts": "get_caller_identity",
}
REGIONS = ("us-east-1", "eu-central-1", "ap-southeast-5", "cn-north-1", "us-gov-west-1")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """botocore's data as the layer ships it."""
    data = tmp_path_factory.mktemp("botocore") / "data"
    whole = Path(botocore.__file__).parent / "data"
    data.mkdir()
    for file in whole.glob("*.json"):
        shutil.copy(file, data)
    for service in SERVICES:
        shutil.copytree(whole / service, data / service)
    spec = importlib.util.spec_from_file_location("slim_botocore", _LAYER / "slim_botocore.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.slim(data, set(SERVICES))
    return data


def _client(service: str, region: str, data: Path | None = None) -> Any:
    session = Session()
    session.set_credentials("test", "test")
    session.register_component("data_loader", _loader(data))
    return session.create_client(service, region)


@cache
def _loader(data: Path | None) -> Loader:
    """It remembers what it read, and reading is what takes the time."""
    if data is None:
        return Loader()
    return Loader(extra_search_paths=[str(data)], include_default_search_paths=False)


def _shapes(client: Any) -> dict[str, Any]:
    """What is known of the operations and of every shape that they mention, without documentation."""
    model = client.meta.service_model
    found = {name: _bare(model.operation_model(name)._operation_model) for name in model.operation_names}
    return found | {f"shape {name}": _bare(model.shape_for(name)._shape_model) for name in model.shape_names}


def _bare(described: Any) -> Any:
    if isinstance(described, dict):
        bare = {name: _bare(value) for name, value in described.items()}
        return bare if isinstance(bare.get("documentation"), dict) else bare | {"documentation": None}
    return [_bare(each) for each in described] if isinstance(described, list) else described


@pytest.mark.parametrize("service", SERVICES)
def test_operations_are_described_as_they_were(service: str, shipped: Path) -> None:
    assert _shapes(_client(service, "us-east-1", shipped)) == _shapes(_client(service, "us-east-1"))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("region", REGIONS)
def test_calls_go_where_they_went(service: str, region: str, shipped: Path) -> None:
    ours, whole = _client(service, region, shipped), _client(service, region)
    assert ours.meta.endpoint_url == whole.meta.endpoint_url
    assert ours.meta.config.signature_version == whole.meta.config.signature_version
    assert _url_of_a_call(ours) == _url_of_a_call(whole)


def _url_of_a_call(client: Any) -> str:
    """By the rules of the service's endpoints, which botocore evaluates at each call."""
    urls = []

    def answer(request: Any, **_: Any) -> Any:
        urls.append(request.url)
        raise _Enough

    client.meta.events.register("before-send", answer)
    with pytest.raises(_Enough):
        getattr(client, _CALLS[client.meta.service_model.service_name])()
    return str(urls[0])


class _Enough(BaseException):
    """The request is made, and shall not be sent."""


def test_documentation_and_other_services_are_gone(shipped: Path) -> None:
    assert not list(shipped.rglob("*.gz"))
    whole = sum(file.stat().st_size for file in (Path(botocore.__file__).parent / "data").glob("*.json"))
    assert sum(file.stat().st_size for file in shipped.glob("*.json")) < whole / 10
    assert '"documentation":"' not in (shipped / "dynamodb" / "2012-08-10" / "service-2.json").read_text()

"""One deployed stack for all end-to-end tests, beside whatever `make up` runs; and receivers."""

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from local.stack import down, up
from tests.e2e.browser import Console, browser
from tests.e2e.system import EXTRA_EVENT_TYPES, Account, System
from tests.fakes.receiver import Receiver

BRINGING_UP_SECONDS = 1_200  # a first build fetches the layer's packages, and beside other work all is slow
SHOWN_LINES = 200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test brings the stack up; on a fresh clone that takes longer than a test may."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(BRINGING_UP_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show beside a failure what the functions logged meanwhile: the stack is gone when it is read."""
    report = yield
    system = getattr(item, "funcargs", {}).get("system")
    if report.failed and system is not None and call.when == "call":  # later there may be no stack any more
        lines = system.stack.log_lines(since_ms=int(call.start * 1000))
        report.sections.append(("the functions' log", "\n".join(lines[-SHOWN_LINES:])))
    return report


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The stack, deployed from the real template. At the end no secret of any test may stand in the clear."""
    state_dir = tmp_path_factory.mktemp("stack")
    try:
        system = System(up(state_dir, extra_event_types=EXTRA_EVENT_TYPES))
        system.listen_to(system.notice_topic)  # from the beginning: whatever is told is searched too
        yield system
        system.check_secrets()
    finally:
        down(state_dir)


@pytest.fixture
def new_account(system: System) -> Iterator[Callable[[], Account]]:
    """Makes accounts; their webhooks end with the test."""
    accounts: list[Account] = []

    def make() -> Account:
        accounts.append(system.new_account())
        return accounts[-1]

    yield make
    for account in accounts:
        account.delete_all()


@pytest.fixture
def account(new_account: Callable[[], Account]) -> Account:
    """An account of the test's own."""
    return new_account()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that takes everything, until a test gives it another script."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def tls_receiver(system: System) -> Iterator[Receiver]:
    """As `receiver`, by TLS, with a certificate that the stack trusts."""
    tls = system.stack.description["tls"]
    with Receiver(certificate=(Path(tls["certFile"]), Path(tls["keyFile"]))) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for a module: its event loop would be in the way of other tests."""
    with browser() as started:
        yield started


@pytest.fixture
def new_console(system: System, chromium: Browser) -> Iterator[Callable[..., Console]]:
    """Makes tabs, signed in with a token; after the test nothing must have gone wrong in them."""
    consoles: list[Console] = []

    def make(token: str | None = None, **context: Any) -> Console:
        console = Console(system, chromium, **context)
        consoles.append(console)
        if token is not None:
            console.context.add_init_script(f"sessionStorage.setItem('token', {json.dumps(token)})")
        return console

    yield make
    faults = [fault for console in consoles for fault in console.faults]
    for console in consoles:
        console.close()
    assert faults == []


@pytest.fixture
def console(new_console: Callable[..., Console], account: Account) -> Console:
    """The console of the test's account."""
    return new_console(account.token)


@pytest.fixture
def page(console: Console) -> Page:
    """Its tab."""
    return console.page

"""What is mistyped at a command on this machine is answered in words, not with a traceback."""

import pytest

from local import __main__ as local
from local.emit import make_event
from local.steps import StepFailedError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["listen", "--secret", "whsec_..."], "reading SECRET"),
        (["listen", "--secret", "hello"], "reading SECRET"),
        (["listen", "--basic", "lms"], "reading BASIC"),
        (["emit", "NO_SUCH_EVENT"], "no event type 'NO_SUCH_EVENT'"),
        (["emit", "--account", "a b"], "no account is called 'a b'"),
    ],
)
def test_a_mistyped_argument_is_named(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["local", *arguments])
    assert local.main() == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("account", "written"), [("1010", 1010), ("acme", "acme"), ("007", "007")])
def test_an_account_is_written_as_the_lms_would(account: str, written: object) -> None:
    assert make_event("COURSE_ENROLLMENT", account)["accountId"] == written


def test_an_account_that_none_can_be_is_refused() -> None:
    with pytest.raises(StepFailedError, match="no account is called ''"):
        make_event("COURSE_ENROLLMENT", "")

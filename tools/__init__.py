"""Generators and checks of the repository: none needs the emulator, and none is deployed."""

import sys
from types import TracebackType


def end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show no traceback of a Ctrl-C: it is no fault. The imports alone, before any handler, take a second."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = end_quietly

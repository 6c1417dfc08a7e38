"""The processes that run the functions on the emulator. To kill one is what a crash of its host is on AWS."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from local.stack import Stack


def workers(stack: Stack, function: str) -> list[int]:
    """The process ids of a function's workers, named as in `.local/stack.json`."""
    # A function's name is the same in every stack of this machine; the folder of its state is not.
    folder = str(stack.state_dir).encode()
    name = f"ministack-lambda-{stack.description['functions'][function]}-".encode()
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            command = (process / "cmdline").read_bytes()
            if folder in command and name in command:
                found.append(int(process.name))
    return found


def kill(process_id: int) -> bool:
    """End a process at once; return whether it was there to be ended."""
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True

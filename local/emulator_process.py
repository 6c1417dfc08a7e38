"""Start and stop the emulator, ministack, as a process of its own in its own environment.

The process holds a lock on `emulator.lock` for as long as it lives, however it ends. So whether it runs
is never guessed from an id that a crash left behind and another process may have now.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tools.progress import REPOSITORY, StepFailedError, failure

PYTHON = REPOSITORY / ".local" / "emulator" / "bin" / "python"
_START_SECONDS = 120.0  # on a machine that does much else; one that ends is noticed at once
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    pid: int
    port: int

    @property
    def endpoint_url(self) -> str:
        """Where every AWS client finds it."""
        return f"http://127.0.0.1:{self.port}"


# An emulator outlives the command that started it; Python would report a Popen that is dropped as a leak.
_started: list[subprocess.Popen[bytes]] = []


def log_file(state_dir: Path) -> Path:
    """What the emulator prints, and with it the logs of the functions."""
    return state_dir / "logs" / "emulator.log"


def check_port(port: int) -> None:
    """See that the emulator could listen on `port` of loopback.

    Raises:
        StepFailedError: it could not.
    """
    with socket.socket() as probe:
        # As servers do: what has just been closed is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StepFailedError(
                f"taking port {port}: {error.strerror}; PORT=... picks another, none picks a free one"
            ) from None


def running(state_dir: Path) -> Emulator | None:
    """The emulator of `state_dir`, if it lives."""
    record = state_dir / "emulator.json"
    lock = _lock(state_dir)
    if lock is not None:
        os.close(lock)
        return None
    try:
        return Emulator(**json.loads(record.read_text()))
    except (OSError, ValueError) as error:
        raise StepFailedError(
            f"emulator: it is starting or stopping in another terminal ({record}: {error})"
        ) from error


def start(state_dir: Path, *, port: int | None = None, roles_enforced: bool = False) -> Emulator:
    """Start an empty emulator and wait until it responds. With `roles_enforced` functions may do what their
    roles say and no more."""
    work = state_dir / "run"
    shutil.rmtree(work, ignore_errors=True)
    for directory in (work / "tmp", work / "state", work / "s3", log_file(state_dir).parent):
        directory.mkdir(parents=True, exist_ok=True)
    lock = _lock(state_dir)
    if lock is None:
        raise StepFailedError(f"emulator: already running for {state_dir}")
    try:
        port = port or free_port()
        with log_file(state_dir).open("w") as log:
            process = subprocess.Popen(
                [PYTHON, "-P", REPOSITORY / "local" / "ministack_patch.py"],
                cwd=work,
                env=_environment(work, port) | {"AUTH": str(roles_enforced).lower()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the emulator in order
            )
        _started.append(process)
        emulator = Emulator(process.pid, port)
        (state_dir / "emulator.json").write_text(json.dumps({"pid": emulator.pid, "port": emulator.port}))
    finally:
        os.close(lock)
    try:
        _wait_until_ready(emulator, process, log_file(state_dir))
    except BaseException:
        stop(state_dir)
        raise
    return emulator


def stop(state_dir: Path) -> bool:
    """Stop the emulator of `state_dir` and remove what it kept. False when none was running."""
    emulator = running(state_dir)
    if emulator is not None:
        _end(emulator.pid, state_dir)
        for process in _started:
            process.poll()  # takes note that it ended, if it was this command's
    shutil.rmtree(state_dir / "run", ignore_errors=True)
    (state_dir / "emulator.json").unlink(missing_ok=True)
    return emulator is not None


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment.

    Not one that systems give to connections by themselves (Linux from 32768, others from 49152): until it is
    listened on, a connection of another process might get it.
    """
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _environment(work: Path, port: int) -> dict[str, str]:
    # Nothing else of this machine's environment: the functions inherit the emulator's, and in Lambda
    # there would be no proxy, no certificate bundle and no AWS profile of the developer's either.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return inherited | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(work / "state"),
        "S3_DATA_DIR": str(work / "s3"),
        "TMPDIR": str(work / "tmp"),
    }


def _wait_until_ready(emulator: Emulator, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise failure("emulator", f"it ended with {process.returncode} at its start", log)
        try:
            with urlopen(f"{emulator.endpoint_url}/_ministack/ready", timeout=1):  # noqa: S310  # loopback
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise failure("emulator", f"no response after {_START_SECONDS:.0f} s", log)


def _end(pid: int, state_dir: Path) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        give_up_at = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < give_up_at:
            lock = _lock(state_dir)
            if lock is not None:
                os.close(lock)
                return
            time.sleep(0.02)


def _lock(state_dir: Path) -> int | None:
    """An open, locked `emulator.lock`; None when the emulator has it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "emulator.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor

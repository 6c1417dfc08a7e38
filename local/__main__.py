"""The commands behind the Makefile: `python -m local up`, `down`, `run`, `token`, `emit`...."""

import argparse
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError

from lms_webhooks.model.event_types import EVENT_TYPES
from local import deploy, next_steps
from local.demo import demo
from local.emit import make_event
from local.followed_event import where_it_went
from local.own_webhooks import listening_webhook
from local.receiver import Check, Received, Receiver, basic_authentication, report, signature
from local.stack import LOG_FILE, Stack, current, down, up
from tools.check_build import check_build
from tools.progress import STATE_DIR, StepFailedError, paint, step

# `kill` and a closed terminal must stop what was started, as Ctrl-C does.
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run one command; return the exit code."""
    arguments = _parse()
    for sign in _INTERRUPTS:
        signal.signal(sign, _interrupt)
    try:
        return _run(arguments)
    except StepFailedError as failed:
        print(f"\n{paint('Failed', 'red')} at {failed}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(
            f"\n{paint('Failed', 'red')} at talking to the stack: {error};"
            " `make down` and `make up` start it again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for sign in _INTERRUPTS:
        signal.signal(sign, _stop_already)
    raise KeyboardInterrupt


def _stop_already(_signal: int, _frame: FrameType | None) -> None:
    """Leave it at that: a second interrupt would leave behind what the first one stops."""
    print("\nStopping already.", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bring_up = commands.add_parser("up")
    bring_up.add_argument("--port")
    bring_up.add_argument("--extra-event-types", default="")
    commands.add_parser("down")
    commands.add_parser("logs")
    commands.add_parser("check-build")
    commands.add_parser("run").add_argument("--once", action="store_true")
    commands.add_parser("token").add_argument("--account", default=deploy.ACCOUNT_IDS[0])
    emit = commands.add_parser("emit")
    emit.add_argument("--event", default="COURSE_ENROLLMENT")
    emit.add_argument("--account", default=deploy.ACCOUNT_IDS[0])
    listen = commands.add_parser("listen")
    listen.add_argument("--port")
    listen.add_argument("--secret")
    listen.add_argument("--basic", metavar="USER:PASSWORD")
    listen.add_argument("--webhook")
    listen.add_argument("--account", default=deploy.ACCOUNT_IDS[0])
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            _up(_port(arguments.port), arguments.extra_event_types)
        case "down":
            _down()
        case "run":
            return _demo(once=arguments.once)
        case "token":
            print(_stack().id_token(arguments.account))
        case "logs":
            _logs()
        case "emit":
            _emit(arguments.event, arguments.account)
        case "listen":
            check = _check(arguments.secret, arguments.basic)
            _listen(_port(arguments.port) or 0, check, _webhook_account(arguments))
        case "check-build":
            check_build(deploy.build(STATE_DIR))
    return 0


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isdecimal() and 1 <= int(text[:6]) <= 65535):
        raise StepFailedError(f"reading PORT: {text!r} is no port; it is a number from 1 to 65535")
    return int(text)


def _stack() -> Stack:
    stack = current(STATE_DIR)
    if stack is None:
        raise StepFailedError("looking for the stack: it is not up; `make up` starts it")
    return stack


def _logs() -> None:
    stack = current(STATE_DIR)
    log_file = STATE_DIR / LOG_FILE
    if stack is not None:
        stack.save_logs()
    elif log_file.exists():
        # Not among the logs: a pipe should get nothing else.
        print("The stack is not up; this is what the last one logged until it was stopped.", file=sys.stderr)
    else:
        raise StepFailedError(
            "looking for logs: the stack is not up, and none has left any; `make up` starts it"
        )
    print(log_file.read_text(), end="")


def _up(port: int | None, extra_event_types: str) -> None:
    stack = current(STATE_DIR)
    if stack is None:
        print("Bringing the stack up", flush=True)
        stack = up(STATE_DIR, port=port, extra_event_types=extra_event_types)
    else:
        changed = "port" if port else "event types" if extra_event_types else ""
        print("It is up already" + (f"; `make down` first to change its {changed}" if changed else ""))
    env_file = stack.write_env()
    print(
        f"Ready: {stack.api_url}\n"
        f"{next_steps.sign_in(stack)}\n"
        f"  shell     . {shlex.quote(os.path.relpath(env_file))}    # sets API, CONSOLE and TOKEN\n"
        f"  non-real-time events go out within {stack.description['batchScheduleSeconds']} s\n"
        f"  described in {STATE_DIR / 'stack.json'}; `make down` stops it\n\n"
        f"{next_steps.commands_to_try()}"
    )


def _emit(event_name: str, account_id: str) -> None:
    running = current(STATE_DIR)
    # What is mistyped is named whether the stack is up or not.
    event = make_event(event_name, account_id, EVENT_TYPES if running is None else running.event_types)
    stack = running or _stack()
    stack.emit([event])
    print(f"{event['eventName']} {event['eventId']}", flush=True)
    for line in where_it_went(stack, event, account_id):
        print(line, flush=True)


def _down() -> None:
    stack = current(STATE_DIR)
    if stack is None:
        print("Stopped what was left of one." if down(STATE_DIR) else "Nothing was running.")
        return
    with step("stopping the stack, its logs kept"):
        down(STATE_DIR)
    print(f"Stopped.\n  what the functions logged: {stack.log_file}")


def _demo(*, once: bool) -> int:
    started = time.monotonic()
    running = current(STATE_DIR)
    try:
        if running is None:
            print("Bringing the stack up", flush=True)
        else:
            print("Using the stack that is up")
        stack = running or up(STATE_DIR)
        stack.write_env()
        all_agree = demo(stack, stay=not once)
        print(f"  {time.monotonic() - started:.1f} s since it began to start")
    finally:
        # Only what this command started: a stack of `make up` is someone's.
        if running is None:
            print()
            with step("stopping the stack, its logs kept"):
                down(STATE_DIR)
            print("Stopped, and cleaned up.", flush=True)
    if running is not None:
        print(f"\nThe stack stays up.\n{next_steps.sign_in(running)}\n\n{next_steps.commands_to_try()}")
    elif all_agree:
        print(f"\n{next_steps.ways_to_go_on()}")
    return 0 if all_agree else 1


def _check(secret: str | None, basic: str | None) -> Check | None:
    if secret is not None and basic is not None:
        raise StepFailedError("reading SECRET and BASIC: a webhook has one kind of authentication; give one")
    if secret is not None:
        try:
            return signature(secret)
        except ValueError as error:
            raise StepFailedError(f"reading SECRET: {error}. Copy it as the API gave it.") from None
    if basic is not None:
        username, colon, password = basic.partition(":")
        if not colon:
            raise StepFailedError("reading BASIC: it must be a user name, a colon and a password")
        return basic_authentication(username, password)
    return None


def _webhook_account(arguments: argparse.Namespace) -> str | None:
    """The account for which the listener registers a webhook; None if it registers none."""
    if arguments.webhook not in (None, "none"):
        raise StepFailedError(
            f"reading WEBHOOK: it is {arguments.webhook!r}; `none` registers no webhook, and without it"
            " the receiver gets one of its own"
        )
    if arguments.webhook == "none" or arguments.secret is not None or arguments.basic is not None:
        return None  # with SECRET or BASIC there is a webhook already
    return str(arguments.account)


def _listen(port: int, check: Check | None, account_id: str | None) -> None:
    stack = None if account_id is None else _stack()

    def show(received: Received) -> None:
        print("\n" + report(received, is_checked=received.path in receiver.checks), flush=True)

    try:
        receiver = Receiver(show, port=port)
    except OSError as error:
        raise StepFailedError(f"listening on port {port}: {error.strerror}; PORT=... picks another") from None
    if check is not None:
        receiver.checks["/"] = check
    with receiver:
        if stack is None or account_id is None:
            _wait_for_interrupt(receiver)
            return
        with listening_webhook(stack, account_id, receiver.url) as webhook:
            receiver.checks["/"] = signature(webhook["authentication"]["secret"])
            _wait_for_interrupt(
                receiver,
                f"  registered as {webhook['webhookId']} of account {account_id}, for every event type",
                "  in another terminal: make emit EVENT=COURSE_ENROLLMENT",
            )
        print(f"\nRemoved {webhook['webhookId']}.", flush=True)


def _wait_for_interrupt(receiver: Receiver, *lines: str) -> None:
    print(f"Listening at {receiver.url}/  (Ctrl-C ends)", *lines, sep="\n", flush=True)
    with suppress(KeyboardInterrupt):  # the way to end it, and no error
        while True:  # not `signal.pause`: it would sleep through a Ctrl-C that comes just before it
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())

"""What to try on the stack of this machine, as the commands print it. Each line can be pasted."""

from local.deploy import ACCOUNT_IDS
from local.stack import Stack
from tools.progress import paint

_COMMANDS = """\
  make listen                          # a receiver of your own: a webhook until Ctrl-C
  make emit EVENT=COURSE_ENROLLMENT    # an event, and where it went
  . .local/env && curl -s "$API/v1/webhooks" -H "authorization: Bearer $TOKEN\""""


def sign_in(stack: Stack) -> str:
    """Where the console is, and who can sign in."""
    admin = stack.admins[ACCOUNT_IDS[0]]
    return (
        f"  console   {stack.console_url}\n  user      {admin['username']}\n  password  {admin['password']}"
    )


def commands_to_try() -> str:
    """Three commands, while the stack is up."""
    return f"{paint('Try, each in a terminal of its own:', 'bold')}\n\n{_COMMANDS}"


def ways_to_go_on() -> str:
    """The same, after the stack was stopped."""
    return (
        f"{paint('To go on:', 'bold')} `make up` starts the stack again, in the background. It prints the"
        f" console's address, user and password.\nThen try, each in a terminal of its own:\n\n{_COMMANDS}"
    )

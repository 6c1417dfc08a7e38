"""The whole system on one machine, and a demo of it. Nothing here is deployed."""

import tools  # noqa: F401  # a Ctrl-C shows no traceback, also while a command imports

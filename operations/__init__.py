"""What those who run the system do by hand."""

import tools  # noqa: F401  # a Ctrl-C shows no traceback, also while a command imports

"""What surrounds a command that a test starts."""

import os

from tools.progress import REPOSITORY

OUTSIDE_MAKE = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
"""As in a shell, though `make test` runs the tests."""
OWN_CODE = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'layers' / 'core'}"}
"""Where Python finds the project."""

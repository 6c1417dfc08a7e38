"""What admins, receivers and the LMS are promised holds with no more permissions than the template grants.

The same tests as above, of all that functions do: a permission that is missing fails one of them. Left out
are those in which no function makes other calls of AWS: of the console, of example receivers and clients, of
sign-in and tokens, of bad neighbours, and of what deployers do with credentials of their own.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

AGAIN = (
    "test_admin_calls",
    "test_admin_document",
    "test_backlog",
    "test_deliveries",
    "test_quarantine",
    "test_resends",
    "test_secrets",
    "test_tenants",
)


def collected(module: ModuleType) -> dict[str, Any]:
    """What pytest looks for in a module: its tests, and the fixtures that it made for them."""
    return {
        name: each
        for name, each in vars(module).items()
        if name.startswith("test_") or type(each).__name__ == "FixtureFunctionDefinition"
    }


for again in AGAIN:
    found = collected(import_module(f"tests.e2e.{again}"))
    assert not found.keys() & globals().keys(), again
    globals().update(found)

"""Days and weeks are lived in the world of the scenarios."""

from tests.scenarios.conftest import quiet, world

__all__ = ["quiet", "world"]

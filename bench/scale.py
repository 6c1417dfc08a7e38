"""What holds at a size that no machine here makes: the real code, in fake time."""

from bench import crowds
from bench.figures import Row


def measure() -> Row:
    """Every run at its full size."""
    return Row([*crowds.nearly_slow(), *crowds.hanging(500), *crowds.hanging(2500)])

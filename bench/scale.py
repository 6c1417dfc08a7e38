"""What holds at a size that no machine here makes: the real code, in fake time."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from bench import crowds, memory, purge, slots
from bench.results import Row


def measure() -> Row:
    """Every run at its full size."""
    # A process of its own: it measures a function, whose environment is there before it is imported.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        slot = processes.submit(slots.measure).result()
    crowd = [*crowds.nearly_slow(), *crowds.hanging(500), *crowds.hanging(2500), *crowds.deleted(100_000)]
    return Row([*crowd, *memory.worst(), *slot.figures, *purge.purge(1_000_000)], slot.notes)

"""Keeping a sync's memory bounded: what the system gets back, and when.

How much is read and written at a time is decided where it is done.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa

# Pages are decoded into objects that cannot be part of a cycle; looking for any costs a fifth.
_COLLECT_AFTER = 500_000  # new objects


@contextmanager
def bound_memory() -> Iterator[None]:
    """Collect garbage more rarely, and let Arrow keep nothing, until the block ends."""
    thresholds, pool = gc.get_threshold(), pa.default_memory_pool()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        gc.set_threshold(*thresholds)
        release_memory()


def release_memory() -> None:
    """Give freed memory back to the system, where the C library would keep it (glibc)."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)

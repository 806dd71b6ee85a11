"""Interrupts: told from failures, however a library has wrapped them.

Ctrl-C, a signal and Terminate raise what is no `Exception`. dlt hides it in errors of its own, and
DuckDB loses it. What is let go of then is decided where it is held.
"""

from collections.abc import Iterator
from contextlib import contextmanager

LOST = "Query interrupted"  # what DuckDB says where a signal's handler raised


def find_interrupt(error: BaseException | None) -> BaseException | None:
    """Return the interrupt that an error is, or was made of; None if there is none."""
    while error is not None:
        if not isinstance(error, Exception | GeneratorExit):
            return error
        if type(error) is RuntimeError and str(error) == LOST:
            return KeyboardInterrupt()
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise an interrupt of the block as itself, so that nobody takes it for a failure."""
    try:
        yield
    except Exception as error:
        if interrupt := find_interrupt(error):
            raise interrupt from None
        raise

"""JSON text to exact values and back: no digit and no half of a character is lost on the way.

A number that no double holds stays the text it was written as (`msgspec.Raw`). What becomes of a
value in a table is decided in `rows`.
"""

import json
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

EXACT_DIGITS = 15  # every number of so many digits, without an exponent, has a double of its own
LONGEST_INTEGER = 4300  # digits that Python reads, unless told otherwise


def _read_float(digits: str) -> float | msgspec.Raw:
    value = float(digits)
    if len(digits) <= EXACT_DIGITS and "e" not in digits.lower():
        return value
    with suppress(InvalidOperation):  # an exponent that decimals do not hold either
        if Decimal(repr(value)) == Decimal(digits):
            return value
    return msgspec.Raw(digits.encode())


def _read_integer(digits: str) -> int | msgspec.Raw:
    return int(digits) if len(digits) <= LONGEST_INTEGER else msgspec.Raw(digits.encode())


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_DECODER = msgspec.json.Decoder(float_hook=_read_float)
_PARTS = msgspec.json.Decoder(list[msgspec.Raw])


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text, with every number exact.

    Fractions that no double holds come back as `msgspec.Raw`, as do integers of thousands of
    digits. Lone surrogates stay in the strings. Raises ValueError if the body is no JSON,
    RecursionError if it is nested deeper than Python can follow.
    """
    try:
        return _DECODER.decode(body)
    except ValueError:
        # Lone surrogates, other encodings and the longest integers are JSON too.
        return json.loads(
            body, parse_float=_read_float, parse_int=_read_integer, parse_constant=_refuse_constant
        )


def split_list(raw: bytes) -> list[bytes]:
    """Return the parts of a JSON list, as they are written. Raises ValueError if it is none."""
    return [bytes(part) for part in _PARTS.decode(raw)]


def dump_json(value: Any) -> str:
    """Return compact JSON text of a parsed value; exact numbers keep their digits.

    Raises UnicodeEncodeError for a lone surrogate, RecursionError as `parse_json` does.
    """
    return msgspec.json.encode(value).decode()


def dump_ascii(value: Any) -> str:
    """Return JSON text of any parsed value, with lone surrogates escaped.

    Numbers that no double holds become strings of their digits.
    """
    return json.dumps(value, default=lambda number: bytes(number).decode())


def is_storable(value: Any) -> bool:
    """Whether a value survives UTF-8, which a lone surrogate does not."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True

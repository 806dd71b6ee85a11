"""JSON text to exact values and back: no digit and no half of a character is lost on the way.

What becomes of a value in a table is decided in `tables`.
"""

import json
import re
import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import orjson

_NUMBER, _BEFORE = b"0123456789.eE+-", b":[, \t\r\n"
_TOKENS = bytes(
    ord("0") if byte in _NUMBER else ord(":") if byte in _BEFORE else ord("x")
    for byte in range(256)
)
_LONG_NUMBER = re.compile(rb"(?:^|[:\[,\s])(-?[0-9][0-9.eE+-]{15,})")


@dataclass(frozen=True)
class ExactNumber:
    """A JSON number that neither 64-bit integers nor doubles can hold, as it was written."""

    digits: str


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text, with every number exact.

    Numbers that fit neither int64, uint64 nor double come back as `ExactNumber`. Lone surrogates
    stay in the strings. Raises ValueError if the body is no JSON, RecursionError if it is nested
    deeper than Python can follow.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # lone surrogates and deep nesting are JSON too: the slow parser decides
    else:
        if not _holds_inexact_number(body):
            return value
    return json.loads(
        body, parse_int=_exact_int, parse_float=_exact_float, parse_constant=_refuse_constant
    )


def _holds_inexact_number(body: bytes) -> bool:
    # Up to 16 characters, every number is exact; ids are full of digits, but stand in quotes.
    tokens, run = body.translate(_TOKENS), b"0" * 17
    if b":" + run not in tokens and not tokens.startswith(run):
        return False
    return any(not _is_exact(number.decode()) for number in _LONG_NUMBER.findall(body))


def _is_exact(digits: str) -> bool:
    try:
        if digits.lstrip("-").isdigit():
            return isinstance(_exact_int(digits), int)
        return isinstance(_exact_float(digits), float)
    except (ValueError, ArithmeticError):
        return True  # part of a string, such as a date


def _exact_int(digits: str) -> int | ExactNumber:
    # Longer than int() may be asked to read, and longer than 64 bits anyway.
    if len(digits) > 20:
        return ExactNumber(digits)
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else ExactNumber(digits)


def _exact_float(digits: str) -> float | ExactNumber:
    value = float(digits)
    return value if Decimal(repr(value)) == Decimal(digits) else ExactNumber(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def dump_json(value: Any) -> str:
    """Return compact JSON text of a parsed value; exact numbers keep their digits."""
    try:
        return orjson.dumps(
            value, default=_dump_exact, option=orjson.OPT_PASSTHROUGH_DATACLASS
        ).decode()
    except (TypeError, ValueError):
        # Nested deeper than orjson writes, or a lone surrogate, which no database stores.
        return _dump_slowly(value)


def _dump_exact(value: object) -> orjson.Fragment:
    if isinstance(value, ExactNumber):
        return orjson.Fragment(value.digits)
    raise TypeError(type(value).__name__)


def _dump_slowly(value: Any) -> str:
    mark = secrets.token_hex(8)  # no string of the API can hold it by chance
    marked = json.dumps(
        value,
        ensure_ascii=False,
        separators=(",", ":"),
        default=lambda number: f"{mark}{cast(ExactNumber, number).digits}",
    )
    return re.sub(f'"{mark}([^"]*)"', r"\1", marked)


def is_storable(value: Any) -> bool:
    """Whether a value survives UTF-8, which a lone surrogate does not."""
    try:
        dump_json(value).encode()
    except UnicodeEncodeError:
        return False
    return True

"""API pages to typed Arrow tables, and JSON text to exact values.

One rule decides every cell (rule 1 of the data): a value that fits its pinned type stands in its
column; what does not stands under its field's name in `_rescued`, and nothing is lost. Fetching,
spooling and loading are elsewhere.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import orjson
import pyarrow as pa

from incident_assets.source.endpoints import LOADER_COLUMNS, Column, ColumnType, Endpoint

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "json": pa.string(),
}
# JSON types that may stand in a column; null always may, and JSON columns take anything.
PYTHON_TYPES: Mapping[ColumnType, set[type]] = {
    "text": {str, type(None)},
    "bigint": {int, type(None)},
    "double": {int, float, type(None)},
    "bool": {bool, type(None)},
    "timestamp": {str, type(None)},
}
# dlt turns any other name into a different one, and a leading underscore is the loader's.
COLUMN_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST_COLUMN_NAME = 63

_NUMBER, _BEFORE = b"0123456789.eE+-", b":[, \t\r\n"
_TOKENS = bytes(
    ord("0") if byte in _NUMBER else ord(":") if byte in _BEFORE else ord("x")
    for byte in range(256)
)
_LONG_NUMBER = re.compile(rb"(?:^|[:\[,\s])(-?[0-9][0-9.eE+-]{15,})")
_FRACTION = re.compile(r"(\.\d{6})(\d+)")


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


def build_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of these columns, in their order."""
    return pa.schema([pa.field(c.name, ARROW_TYPES[c.type], nullable=c.nullable) for c in columns])


def build_columns(endpoint: Endpoint, extra: Sequence[str] = ()) -> list[Column]:
    """Return all columns of a raw table: pinned, then `extra` fields as JSON, then the loader's."""
    unknown = [Column(name, "json", "Not known to the table of resources") for name in extra]
    return [*endpoint.columns, *unknown, *LOADER_COLUMNS]


def build_table(endpoint: Endpoint, items: Sequence[Mapping[str, Any]], load_id: str) -> pa.Table:
    """Return one typed row per item, in order.

    Columns: the pinned ones, unknown fields in alphabetical order as JSON text, `_rescued` (JSON
    text of an object, or null), `_deleted_at` (null), `_dlt_load_id`. Every item has a text `id`.
    """
    rescued: list[dict[str, Any]] = [{} for _ in items]
    known = {column.name for column in endpoint.columns}
    unknown = set().union(*items) - known
    taken = known | {column.name for column in LOADER_COLUMNS}
    extra = sorted(name for name in unknown if is_column_name(name) and name not in taken)
    columns = build_columns(endpoint, extra)
    arrays = [
        _build_array(column, [item.get(column.name) for item in items], rescued)
        for column in columns[: -len(LOADER_COLUMNS)]
    ]
    for name in sorted(unknown.difference(extra)):
        for item, spare in zip(items, rescued, strict=True):
            if item.get(name) is not None:
                spare[name] = item[name]
    count = len(items)
    arrays += [
        pa.array([_dump_rescued(spare) if spare else None for spare in rescued], pa.string()),
        pa.nulls(count, ARROW_TYPES["timestamp"]),
        pa.array([load_id] * count, pa.string()),
    ]
    return pa.Table.from_arrays(arrays, schema=build_schema(columns))


def is_column_name(name: str) -> bool:
    """Whether a field of this name can be a column of the same name."""
    return len(name) <= LONGEST_COLUMN_NAME and COLUMN_NAME.fullmatch(name) is not None


def _dump_rescued(values: Mapping[str, Any]) -> str:
    # What UTF-8 cannot hold is kept as escaped JSON text inside a string.
    return dump_json(
        {
            name.encode("ascii", "backslashreplace").decode()
            if not is_storable(name)
            else name: value if is_storable(value) else json.dumps(value)
            for name, value in values.items()
        }
    )


def _build_array(column: Column, values: list[Any], rescued: list[dict[str, Any]]) -> pa.Array:
    if column.type == "json":
        texts = [None if value is None else dump_json(value) for value in values]
        try:
            return pa.array(texts, pa.string())
        except UnicodeEncodeError:
            return _build_slowly(column, values, rescued)
    if set(map(type, values)) <= PYTHON_TYPES[column.type]:
        try:
            return _cast(column, values)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
    return _build_slowly(column, values, rescued)


def _cast(column: Column, values: list[Any]) -> pa.Array:
    if column.type == "timestamp":
        return pa.array(values, pa.string()).cast(ARROW_TYPES["timestamp"])
    return pa.array(values, ARROW_TYPES[column.type])


def _build_slowly(column: Column, values: list[Any], rescued: list[dict[str, Any]]) -> pa.Array:
    cells = []
    for value, spare in zip(values, rescued, strict=True):
        cell, whole = _fit(column, value)
        if not whole:
            spare[column.name] = value
        cells.append(cell)
    return pa.array(cells, ARROW_TYPES[column.type])


def _fit(column: Column, value: Any) -> tuple[Any, bool]:
    """Return what may stand in the cell, and whether that is all there is to the value."""
    if value is None:
        return None, True
    if column.type == "json":
        return (dump_json(value), True) if is_storable(value) else (None, False)
    if type(value) not in PYTHON_TYPES[column.type]:
        return None, False
    whole = True
    if column.type == "timestamp":
        value = value.upper()  # RFC 3339 allows a lower-case t and z
        if finer := _FRACTION.search(value):
            whole = not finer[2].strip("0")
            value = _FRACTION.sub(r"\1", value)
    try:
        return _cast(column, [value])[0].as_py(), whole
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        return None, False

"""Values of one column, in which anything may stand, to an Arrow array of its pinned type.

What does not fit is handed back. How rows get here is `rows`'.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from incident_assets.api.endpoints import Column, ColumnType
from incident_assets.api.exact_json import dump_json, is_storable

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

# What Python can hold, in microseconds: offsets reach beyond it, and so does Arrow.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANTS = tuple(
    (end.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    for end in (datetime.min, datetime.max)
)
_FRACTION = re.compile(r"(\.\d{6})(\d+)")


def build_array(column: Column, values: list[Any], rescued: list[dict[str, Any]]) -> pa.Array:
    """Return the cells of a column; each value that does not fit goes to its row's `rescued`."""
    if column.type == "json":
        try:
            texts = [None if value is None else dump_json(value) for value in values]
            return pa.array(texts, pa.string())
        except UnicodeEncodeError:
            return _build_slowly(column, values, rescued)
    if set(map(type, values)) <= PYTHON_TYPES[column.type]:
        try:
            return cast_values(column, values)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
    return _build_slowly(column, values, rescued)


def cast_values(column: Column, values: Sequence[Any]) -> pa.Array:
    """Return values as they are. Raises ArrowInvalid, OverflowError and UnicodeEncodeError."""
    if column.type == "timestamp":
        array = pa.array(values, pa.string()).cast(ARROW_TYPES["timestamp"])
        first, last = (end.value for end in pc.min_max(array).values())
        if first is not None and not _INSTANTS[0] <= first <= last <= _INSTANTS[1]:
            raise OverflowError(column.name)
        return array
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
        return cast_values(column, [value])[0].as_py(), whole
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        return None, False

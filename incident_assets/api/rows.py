"""API objects to typed Arrow tables.

One rule decides every cell (rule 1 of the data): a value that fits its pinned type stands in its
column; what does not stands under its field's name in `_rescued`, and nothing is lost.

There are two ways to a table. Objects that are what the contract says are decoded straight into
rows of a type made for them, whose nested values stay the JSON text they came as: nothing in them
becomes a Python object. Anything else is parsed whole, and each value is looked at. Fetching,
spooling and loading are elsewhere.
"""

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import pyarrow as pa

from incident_assets.api.cells import ARROW_TYPES, build_array, cast_values
from incident_assets.api.endpoints import LOADER_COLUMNS, Column, ColumnType, Endpoint
from incident_assets.api.exact_json import (
    EXACT_DIGITS,
    dump_ascii,
    dump_json,
    is_storable,
    parse_json,
)
from incident_assets.api.personal import Mask

# How a field is decoded. A double stays text, so that no digit is rounded away unseen.
ABSENT = msgspec.Raw(b"")
DECODED: Mapping[ColumnType, tuple[Any, Any]] = {
    "text": (str | None, None),
    "bigint": (int | None, None),
    "double": (msgspec.Raw, ABSENT),
    "bool": (bool | None, None),
    "timestamp": (str | None, None),
    "json": (msgspec.Raw, ABSENT),
}
EMPTY = (b"", b"null")
# dlt turns any other name into a different one, and a leading underscore is the loader's.
COLUMN_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST_COLUMN_NAME = 63
MOST_UNKNOWN = 100  # columns of a table; each costs memory, also where it is empty
NOT_LOADED = ""  # `_dlt_load_id` of a row until the load that wrote it is concluded


def build_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of these columns, in their order."""
    return pa.schema([pa.field(c.name, ARROW_TYPES[c.type], nullable=c.nullable) for c in columns])


def build_columns(endpoint: Endpoint, extra: Sequence[str] = ()) -> list[Column]:
    """Return all columns of a raw table: pinned, then `extra` fields as JSON, then the loader's."""
    unknown = [Column(name, "json", "Not known to the table of resources") for name in extra]
    return [*endpoint.columns, *unknown, *LOADER_COLUMNS]


class Row(msgspec.Struct, gc=False):
    """An object of the API that is what the contract says; its other fields are a subclass's."""

    id: str


def build_row_type(endpoint: Endpoint, extra: Sequence[str] = ()) -> type[Row]:
    """Return the type of rows with the pinned columns and `extra` fields, in their order.

    A decoder refuses objects with other fields or with values of another type.
    """
    fields = _build_fields(endpoint, extra)[1:]
    return cast(
        type[Row],
        msgspec.defstruct(
            endpoint.name,
            [(f"field_{n}", *DECODED[column.type]) for n, column in enumerate(fields)],
            bases=(Row,),
            # A field may be named like one of Python's words.
            rename={f"field_{n}": column.name for n, column in enumerate(fields)},
            forbid_unknown_fields=True,
            gc=False,
            kw_only=True,
        ),
    )


class UnknownFields:
    """Which of the fields that a table does not know are columns: the first MOST_UNKNOWN.

    `columns` are those that the table has so far. Used by all threads that fetch a listing.
    """

    def __init__(self, endpoint: Endpoint, columns: Iterable[str] = ()):
        self._pinned = {column.name for column in (*endpoint.columns, *LOADER_COLUMNS)}
        self._admitted = set(columns) - self._pinned
        self._lock = threading.Lock()

    def admit(self, items: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the fields of these items that are columns, sorted."""
        found = {name for name in set().union(*items) - self._pinned if is_column_name(name)}
        with self._lock:
            room = max(0, MOST_UNKNOWN - len(self._admitted))
            self._admitted.update(sorted(found - self._admitted)[:room])
            return sorted(found & self._admitted)


def build_table(
    endpoint: Endpoint,
    items: Sequence[Any],
    unknown: UnknownFields | None = None,
    mask: Mask | None = None,
) -> pa.Table:
    """Return one typed row per item, in order; items are all Rows or all parsed objects.

    Columns: the pinned ones, `unknown` fields in alphabetical order as JSON text, `_rescued` (JSON
    text of an object, or null), `_deleted_at` and `_valid_from` (null), `_dlt_load_id`
    (NOT_LOADED). Every item has a text `id`. With a mask, what is a person's is in no cell.
    """
    if items and isinstance(items[0], Row):
        names = [field.encode_name for field in msgspec.structs.fields(items[0])]
        extra = names[len(endpoint.columns) :]
        try:
            return _build_from_rows(endpoint, extra, items, mask)
        except (pa.ArrowInvalid, ValueError, OverflowError):
            items = [_unpack(names, row) for row in items]
    table = _build_from_objects(endpoint, items, unknown or UnknownFields(endpoint))
    return mask_table(endpoint, table, mask) if mask else table


def mask_table(endpoint: Endpoint, table: pa.Table, mask: Mask) -> pa.Table:
    """Return a table of a resource with what is a person's masked, unknown columns as JSON."""
    pinned = {column.name: column for column in (*endpoint.columns, *LOADER_COLUMNS)}
    for number, name in enumerate(table.column_names):
        column = pinned.get(name, Column(name, "json", ""))
        if mask.touches(endpoint, column):
            field = table.schema.field(number)
            cells: list[Any] = table.column(number).to_pylist()
            if pa.types.is_string(field.type):
                cells = mask.mask_cells(endpoint, column, cells)
            else:
                cells = [None] * len(cells)
            table = table.set_column(number, field, pa.array(cells, field.type))
    return table


def _build_fields(endpoint: Endpoint, extra: Sequence[str]) -> list[Column]:
    return build_columns(endpoint, extra)[: -len(LOADER_COLUMNS)]


def _build_from_rows(
    endpoint: Endpoint, extra: Sequence[str], rows: Sequence[Row], mask: Mask | None
) -> pa.Table:
    fields = _build_fields(endpoint, extra)
    values = zip(*map(msgspec.structs.astuple, rows), strict=True)
    arrays = []
    for column, cells in zip(fields, values, strict=True):
        masked = mask if mask and mask.touches(endpoint, column) else None
        arrays.append(_read_cells(endpoint, column, cells, masked))
    arrays += _build_loader_arrays([None] * len(rows))
    return pa.Table.from_arrays(arrays, schema=build_schema(build_columns(endpoint, extra)))


def _read_cells(
    endpoint: Endpoint, column: Column, values: Sequence[Any], mask: Mask | None
) -> pa.Array:
    if column.type == "json":
        texts: list[Any] = [None if (text := bytes(raw)) in EMPTY else text for raw in values]
        if mask:
            texts = mask.mask_cells(endpoint, column, texts)
        return pa.array(texts, pa.binary()).cast(pa.string())
    if mask:
        values = mask.mask_cells(endpoint, column, values)
    if column.type == "double":
        values = [_read_double(bytes(raw)) for raw in values]
    return cast_values(column, values)


def _read_double(text: bytes) -> float | None:
    if text in EMPTY:
        return None
    if len(text) > EXACT_DIGITS or b"e" in text.lower():
        raise ValueError(text)  # looked at digit by digit, with the rest of its page
    return float(text)


def _unpack(names: Sequence[str], row: Row) -> dict[str, Any]:
    """Return the parsed object that a row was decoded from."""
    cells = zip(names, msgspec.structs.astuple(row), strict=True)
    return {
        name: parse_json(bytes(cell)) if isinstance(cell, msgspec.Raw) else cell
        for name, cell in cells
        if cell is not None and cell != ABSENT
    }


def _build_loader_arrays(rescued: Sequence[str | None]) -> list[pa.Array]:
    count = len(rescued)
    return [
        pa.array(rescued, pa.string()),
        pa.nulls(count, ARROW_TYPES["timestamp"]),
        pa.nulls(count, ARROW_TYPES["timestamp"]),
        pa.array([NOT_LOADED] * count, pa.string()),
    ]


def _build_from_objects(
    endpoint: Endpoint, items: Sequence[Mapping[str, Any]], unknown: UnknownFields
) -> pa.Table:
    rescued: list[dict[str, Any]] = [{} for _ in items]
    others = set().union(*items) - {column.name for column in endpoint.columns}
    extra = unknown.admit(items)
    arrays = [
        build_array(column, [item.get(column.name) for item in items], rescued)
        for column in _build_fields(endpoint, extra)
    ]
    for name in sorted(others.difference(extra)):
        for item, spare in zip(items, rescued, strict=True):
            if item.get(name) is not None:
                spare[name] = item[name]
    arrays += _build_loader_arrays([_dump_rescued(x) if x else None for x in rescued])
    return pa.Table.from_arrays(arrays, schema=build_schema(build_columns(endpoint, extra)))


def is_column_name(name: str) -> bool:
    """Whether a field of this name can be a column of the same name."""
    return len(name) <= LONGEST_COLUMN_NAME and COLUMN_NAME.fullmatch(name) is not None


def _dump_rescued(values: Mapping[str, Any]) -> str:
    # What UTF-8 cannot hold is kept as escaped JSON text inside a string.
    return dump_json(
        {
            name.encode("ascii", "backslashreplace").decode()
            if not is_storable(name)
            else name: value if is_storable(value) else dump_ascii(value)
            for name, value in values.items()
        }
    )

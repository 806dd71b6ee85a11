"""Rows that are stored already, masked where they stand: the same cells as a sync would write.

What a mask makes of a cell is the API's room; when stored rows are masked, the sync's.
"""

from collections.abc import Iterable
from typing import Any, cast
from uuid import uuid4

import duckdb
import pyarrow as pa

from incident_assets.api.endpoints import LOADER_COLUMNS, Column, Endpoint
from incident_assets.api.personal import Mask
from incident_assets.warehouse.file import quote_name
from incident_assets.warehouse.merging import read_schema


def mask_tables(
    connection: duckdb.DuckDBPyConnection,
    schemas: Iterable[str],
    mask: Mask,
    endpoints: Iterable[Endpoint],
) -> None:
    """Mask what tables of these resources hold in these schemas, where they are there.

    Columns that begin with `_`, but `_rescued`, are not the API's. Part of the caller's
    transaction; the plain bytes stay in the file until it is written anew.
    """
    known = {endpoint.name: endpoint for endpoint in endpoints}
    for schema in schemas:
        for table, types in read_schema(connection, schema).items():
            if table in known:
                _mask_table(connection, f"{schema}.{quote_name(table)}", types, known[table], mask)


def _mask_table(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    types: dict[str, str],
    endpoint: Endpoint,
    mask: Mask,
) -> None:
    pinned = {column.name: column for column in (*endpoint.columns, *LOADER_COLUMNS)}
    changes, functions = [], []
    try:
        for name, kind in types.items():
            column = pinned.get(name, Column(name, "json", ""))
            if (name.startswith("_") and name != "_rescued") or not mask.touches(endpoint, column):
                continue
            if kind not in ("JSON", "VARCHAR"):
                changes.append(f"{quote_name(name)} = NULL")
                continue
            function = f"incident_mask_{uuid4().hex}"
            # Its stubs know the enumerations alone, whose module has another name in 1.5.
            cast(Any, connection).create_function(
                function,
                _build_function(endpoint, column, mask),
                ["VARCHAR"],
                "VARCHAR",
                type="arrow",
                null_handling="special",
            )
            functions.append(function)
            changes.append(f"{quote_name(name)} = {function}({quote_name(name)}::VARCHAR)::{kind}")
        if changes:
            connection.execute(f"UPDATE {table} SET {', '.join(changes)}")
    finally:
        for function in functions:
            connection.remove_function(function)


def _build_function(endpoint: Endpoint, column: Column, mask: Mask) -> Any:
    def change(cells: Any) -> Any:
        return pa.array(mask.mask_cells(endpoint, column, cells.to_pylist()), pa.string())

    return change

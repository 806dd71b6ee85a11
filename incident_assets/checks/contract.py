"""Contract: paths, columns, types and values of a table against the table of resources.

Nothing found here loses data; it says that the API, or somebody with the database, changed
something that reports may rely on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import duckdb

from incident_assets.api.endpoints import LOADER_COLUMNS, Endpoint, Way
from incident_assets.api.rows import LONGEST_COLUMN_NAME
from incident_assets.checks.finding import (
    NEVER_LOADED,
    SAMPLE,
    Finding,
    has_loaded,
    read_path,
)
from incident_assets.sync.log import LOG_TABLE
from incident_assets.sync.personal import find_lacking
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets.warehouse.file import quote_text
from incident_assets.warehouse.merging import read_columns
from incident_assets.warehouse.schemas import name_table

MOST_NAMED = 20  # fields of a kind
# What is found, how often, and a query for it where rows have it.
Deviation = tuple[str, int, str | None]


def check_contract(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Name what is new, gone, retyped or rescued, values never seen before, and paths that end."""
    if not has_loaded(connection, endpoint):
        return NEVER_LOADED
    answered, ending = read_answer(connection, endpoint)
    table = name_table(endpoint.name)
    types = read_columns(connection, table)
    pinned = {c.name: DUCKDB_TYPES[c.type] for c in (*endpoint.columns, *LOADER_COLUMNS)}
    deviations: list[Deviation] = [(text, 1, None) for text in ending]
    deviations += _compare_columns(types, pinned)
    if {"_rescued", "_deleted_at"} <= types.keys():
        live = f"FROM {table} WHERE _deleted_at IS NULL"
        here = [c.name for c in endpoint.columns if c.name in types]
        lacking = find_lacking(connection, endpoint).union(endpoint.optional, answered.lacks)
        deviations += _find_gaps(connection, live, here, lacking)
        enums = {x: v for x, v in endpoint.enums.items() if x.partition(".")[0] in types}
        deviations += _find_new_values(connection, live, enums)
    queries = {text: sql for text, _, sql in deviations if sql}
    samples = {}
    for text, sql in queries.items():
        ids = connection.execute(f"SELECT min(id, {SAMPLE}) FROM ({sql})").fetchone()
        samples[text] = list((ids and ids[0]) or ())
    return Finding(
        passed=not deviations,
        description="; ".join(text for text, _, _ in deviations)
        or f"{len(pinned)} columns as known",
        counts={text: count for text, count, _ in deviations},
        samples=samples,
        sql=queries,
    )


def _compare_columns(types: Mapping[str, str], pinned: Mapping[str, str]) -> Iterator[Deviation]:
    yield from _name_some(
        "new", [(name, 1) for name in sorted(types.keys() - pinned)], lambda _: None
    )
    yield from ((f"gone: {name}", 1, None) for name in sorted(pinned.keys() - types))
    for name in sorted(pinned.keys() & types):
        if types[name] != pinned[name]:
            yield f"retyped: {name} is {types[name]}", 1, None


def _name_some(
    what: str, found: Sequence[tuple[str, int]], select: Callable[[str], str | None]
) -> Iterator[Deviation]:
    """Yield the first fields and the number of others: they may be thousands, or very long."""
    named = [x for x in found if len(x[0]) <= LONGEST_COLUMN_NAME][:MOST_NAMED]
    for name, count in named:
        yield f"{what}: {name}", count, select(name)
    if others := len(found) - len(named):
        yield f"{what}: {others:,} more", others, None


def _find_gaps(
    connection: duckdb.DuckDBPyConnection, live: str, columns: Sequence[str], may_lack: set[str]
) -> Iterator[Deviation]:
    """Yield values that could not stand in their column, and columns that no row has."""
    counted = ", ".join(f'count("{name}")' for name in columns)
    total, *filled = connection.execute(f"SELECT count(*), {counted} {live}").fetchone() or (0,)
    rescued = dict(
        connection.execute(
            f"SELECT name, count(*) FROM (SELECT unnest(json_keys(_rescued)) AS name {live} "
            "AND _rescued IS NOT NULL) GROUP BY name"
        ).fetchall()
    )
    yield from _name_some(
        "rescued",
        sorted(rescued.items()),
        lambda name: f"SELECT id {live} AND list_contains(json_keys(_rescued), {quote_text(name)})",
    )
    for name, count in zip(columns, filled, strict=True):
        if total and not count and name not in may_lack | rescued.keys():
            yield f"gone: {name}", total, f'SELECT id {live} AND "{name}" IS NULL'


def _find_new_values(
    connection: duckdb.DuckDBPyConnection, live: str, enums: Mapping[str, Sequence[str]]
) -> Iterator[Deviation]:
    for path, values in enums.items():
        known = ", ".join(f"'{value}'" for value in values)
        sql = f"SELECT id, {read_path(path)} AS value {live} AND value NOT IN ({known})"
        for value, count in connection.execute(
            f"SELECT value, count(*) FROM ({sql}) GROUP BY value ORDER BY value"
        ).fetchall():
            yield f"new value of {path}: {_shorten(value)}", count, sql


def read_answer(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> tuple[Way, list[str]]:
    """Return the version of the API that answered last, and what tells of a path at its end."""
    path, notice, before = None, None, []
    with suppress(duckdb.BinderException):  # a log without these columns, of an older program
        path, notice, before = connection.execute(
            "SELECT arg_max(path, finished_at), arg_max_null(notice, finished_at), "
            f"list(DISTINCT path) FROM {LOG_TABLE} "
            f"WHERE resource = '{endpoint.name}' AND outcome = 'loaded' AND path IS NOT NULL"
        ).fetchone() or (None, None, [])
    paths = [way.path for way in endpoint.ways]
    if path not in paths:
        return endpoint.newest, []
    found = [f"{path} is at its end: {notice}"] if notice else []
    if newer := {*before}.intersection(paths[: paths.index(path)]):
        found.append(f"{path} answers, and no longer {' or '.join(sorted(newer))}")
    return endpoint.ways[paths.index(path)], found


def _shorten(value: object) -> str:
    # Enough to recognise a value; a text that got where a value should be may say anything.
    text = "".join(c for c in str(value) if c.isprintable())
    return text if len(text) <= 40 else text[:40] + "…"

"""Integrity: keys, references between resources, and the order of times.

Only broken keys are errors. What does not resolve is a warning: private incidents and deleted
things leave gaps.
"""

from collections.abc import Iterator

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.finding import (
    NEVER_LOADED,
    SAMPLE,
    Finding,
    Severity,
    has_loaded,
    read_path,
)
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import RAW_SCHEMA, name_table

PAST = ("created_at", "updated_at", "completed_at")


def check_integrity(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Finding:
    """Run every test of a resource and count the rows that break it."""
    if not has_loaded(connection, endpoint):
        return NEVER_LOADED
    counts, samples, queries, broken = {}, {}, {}, set()
    for name, severity, sql in _build_tests(connection, endpoint):
        count, ids = 0, None
        if sql is not None:
            query = f"SELECT count(*), min(id, {SAMPLE}) FROM ({sql})"
            count, ids = connection.execute(query).fetchone() or (0, None)
        counts[name] = count
        if count and sql is not None:
            broken.add(severity)
            samples[name], queries[name] = list(ids or ()), sql
    wrong = ", ".join(f"{name}: {counts[name]}" for name in queries)
    return Finding(
        passed=not queries,
        severity="error" if "error" in broken else "warning",
        description=wrong or f"{len(counts)} tests hold",
        counts=counts,
        samples=samples,
        sql=queries,
    )


def _build_tests(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint
) -> Iterator[tuple[str, Severity, str | None]]:
    """Yield name, severity and a query for the `id`s that break the test; None if none can."""
    table = name_table(endpoint.name)
    names = {column.name for column in endpoint.columns}
    conditions = {"id is null": "id IS NULL"}
    if {"created_at", "updated_at"} <= names:
        conditions["created_at is after updated_at"] = "created_at > updated_at"
    for name in PAST:
        if name in names:
            conditions[f"{name} is in the future"] = f"{name} > now() + INTERVAL 5 MINUTE"
    # One look at the table tells which of these are worth a query of their own.
    counted = ", ".join(f"count(*) FILTER (WHERE {test})" for test in conditions.values())
    query = f"SELECT count(id) - count(DISTINCT id), {counted} FROM {table}"
    repeated, *met = connection.execute(query).fetchone() or (0,)
    sql = f"SELECT id FROM {table} WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1"
    yield "id is not unique", "error", sql if repeated else None
    for (name, test), count in zip(conditions.items(), met, strict=True):
        severity: Severity = "error" if name == "id is null" else "warning"
        yield name, severity, f"SELECT id FROM {table} WHERE {test}" if count else None
    for path, target in endpoint.references.items():
        if has_table(connection, name_table(target)):
            yield (
                f"{path} is no row of {target}",
                "warning",
                f"SELECT id, reference FROM (SELECT id, {read_path(path)} AS reference "
                f"FROM {table} WHERE _deleted_at IS NULL) AS referring "
                f"ANTI JOIN {RAW_SCHEMA}.{target} AS target ON referring.reference = target.id "
                "WHERE reference IS NOT NULL",
            )

"""Findings that are kept: a check looks again where what it reads has changed, not before.

Which checks repeat is in `catalog`; when a table has changed is the warehouse's.
"""

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files

import duckdb

from incident_assets.api.endpoints import Endpoint
from incident_assets.checks.catalog import Check
from incident_assets.checks.contract import read_answer
from incident_assets.checks.finding import Finding, has_loaded
from incident_assets.warehouse.comments import Description, write_comments
from incident_assets.warehouse.file import has_table
from incident_assets.warehouse.schemas import FINDING_TABLE, name_table
from incident_assets.warehouse.versions import read_versions, sign

TEXTS = Description(
    "What checks found, which need not look again until a table that they read has changed.",
    {
        "name": "Resource and check",
        "basis": "What stands for all that the check read",
        "finding": "What it found, as JSON",
    },
)


def find_again(
    connection: duckdb.DuckDBPyConnection,
    check: Check,
    endpoint: Endpoint,
    today: date | None = None,
) -> Finding:
    """Return a check's last finding where nothing that it reads has changed; otherwise look."""
    basis = _find_basis(connection, endpoint, today) if check.repeats else None
    if basis is None:
        return check.find(connection, endpoint)
    name = f"{endpoint.name} {check.name}"
    kept = _read(connection, name, basis)
    if kept is None:
        kept = check.find(connection, endpoint)
        _keep(connection, name, basis, kept)
    return kept


def _find_basis(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, today: date | None
) -> str | None:
    """Return what stands for all that a check reads; None where that is unsure."""
    if not has_loaded(connection, endpoint):
        return None
    names = [endpoint.name, *sorted({*endpoint.references.values()})]
    versions = read_versions(connection, [name_table(name) for name in names])
    if any(x is None and has_table(connection, name) for name, x in versions.items()):
        return None
    today = today or datetime.now(UTC).date()
    answer = read_answer(connection, endpoint)
    return sign(_read_source(), repr(endpoint), versions, answer, today, duckdb.__version__)


@cache
def _read_source() -> str:
    """Return what stands for the code of the checks."""
    here = files("incident_assets.checks")
    sources = (path for path in here.iterdir() if path.name.endswith(".py"))
    return sign(sorted((path.name, path.read_text()) for path in sources))


def _read(connection: duckdb.DuckDBPyConnection, name: str, basis: str) -> Finding | None:
    try:
        row = connection.execute(
            f"SELECT finding FROM {FINDING_TABLE} WHERE name = ? AND basis = ?", [name, basis]
        ).fetchone()
    except duckdb.CatalogException:  # nothing was kept yet
        return None
    return Finding(**json.loads(row[0]) | {"is_repeated": True}) if row else None


def _keep(connection: duckdb.DuckDBPyConnection, name: str, basis: str, finding: Finding) -> None:
    if not has_table(connection, FINDING_TABLE):
        connection.execute(
            f"CREATE TABLE {FINDING_TABLE} (name VARCHAR, basis VARCHAR, finding VARCHAR)"
        )
        write_comments(connection, {FINDING_TABLE: TEXTS})
    values = {"name": name, "basis": basis, "finding": json.dumps(asdict(finding))}
    there = connection.execute(
        f"UPDATE {FINDING_TABLE} SET basis = $basis, finding = $finding WHERE name = $name", values
    ).fetchone()
    if not (there and there[0]):
        connection.execute(f"INSERT INTO {FINDING_TABLE} VALUES ($name, $basis, $finding)", values)

"""Forgetting: rows of an incident or a user, with every version of them, or all versions there are.

Rows alone, in one transaction; the file, its copy and what was made of the rows are made anew after
that (`report.forgetting`, `renewal`). Whoever is to be forgotten has to be so in the account too,
or the next sync brings them back.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import duckdb

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.api.erasure import Erasure
from incident_assets.settings import Settings
from incident_assets.sync.fetch import OF_INCIDENT
from incident_assets.sync.personal import forget_derived, note_due
from incident_assets.sync.updates import INCIDENTS
from incident_assets.warehouse.commits import transact
from incident_assets.warehouse.file import DatabaseError, quote_name
from incident_assets.warehouse.history import forget_versions
from incident_assets.warehouse.masking import mask_tables
from incident_assets.warehouse.merging import read_schema
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA, name_table
from incident_assets.warehouse.versions import doubt_versions

USERS = "users"


@dataclass(frozen=True)
class Forgotten:
    """How many `rows` of raw tables, and `versions` of rows, are gone."""

    rows: int
    versions: int


def forget_rows(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    incidents: Collection[str] = (),
    users: Collection[str] = (),
    history: bool = False,
) -> Forgotten:
    """Delete these incidents with what belongs to them, these users, and all versions if `history`.

    Of a user, what stands in other rows keeps the id alone. Raises DatabaseError where one of them
    is not there, and then nothing is deleted.
    """
    connection.execute("SET TimeZone = 'UTC'")
    with transact(connection):
        tables = {x: read_schema(connection, x) for x in (RAW_SCHEMA, HISTORY_SCHEMA)}
        for resource, ids in ((INCIDENTS, incidents), (USERS, users)):
            _refuse_unknown(connection, settings, tables, resource, ids)
        belonging = [x.name for x in ENDPOINTS if OF_INCIDENT in x.references]
        wanted = [(INCIDENTS, "id", incidents), (USERS, "id", users)]
        wanted += [(name, OF_INCIDENT, incidents) for name in belonging]
        rows, versions = (
            sum(
                _delete(connection, f"{schema}.{name}", column, ids)
                for name, column, ids in wanted
                if name in tables[schema]
            )
            for schema in (RAW_SCHEMA, HISTORY_SCHEMA)
        )
        if users:
            mask_tables(connection, (RAW_SCHEMA, HISTORY_SCHEMA), Erasure(users), ENDPOINTS)
        if history:
            versions += forget_versions(connection, tables[HISTORY_SCHEMA])
        known = [name_table(name) for name in tables[RAW_SCHEMA]]
        doubt_versions(connection, known)
        forget_derived(connection)
        note_due(connection)
    return Forgotten(rows, versions)


def _refuse_unknown(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    tables: dict[str, dict[str, dict[str, str]]],
    resource: str,
    ids: Iterable[str],
) -> None:
    """Raise DatabaseError for an id that neither a row nor a version has: it may be mistyped."""
    for identifier in ids:
        found = [
            connection.execute(
                f"SELECT 1 FROM {schema}.{resource} WHERE id = ? LIMIT 1", [identifier]
            ).fetchone()
            for schema, names in tables.items()
            if resource in names
        ]
        if not any(found):
            raise DatabaseError(
                f"{settings.database_name} knows no row {identifier!r} in {resource}, now or "
                "earlier, so nothing was forgotten: give the id as it stands there"
            )


def _delete(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, ids: Collection[str]
) -> int:
    if not ids:
        return 0
    gone = connection.execute(
        f"DELETE FROM {table} WHERE {quote_name(column)} IN (SELECT unnest(?::VARCHAR[]))", [[*ids]]
    ).fetchone()
    return int(gone[0]) if gone else 0

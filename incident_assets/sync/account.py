"""Whose database it is: a database belongs to one account, and no other's rows get into it."""

from urllib.parse import urlsplit

import duckdb

from incident_assets.api.session import Identity
from incident_assets.settings import Settings
from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.schemas import LOG_SCHEMA

ACCOUNT_TABLE = f"{LOG_SCHEMA}.account"


class AccountMismatch(DatabaseError):
    """The database holds another account's rows."""


def prepare_account(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table that says whose database it is."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {ACCOUNT_TABLE} (host VARCHAR, dashboard_url VARCHAR)"
    )


def check_account(
    connection: duckdb.DuckDBPyConnection, settings: Settings, identity: Identity | None
) -> None:
    """Raise AccountMismatch if the database belongs to another account; remember a new one's.

    An account is its API host and, where `/v1/identity` answers, its dashboard's address.
    """
    host = urlsplit(settings.require_base_url()).hostname
    dashboard = identity.dashboard_url if identity else None
    stored = connection.execute(f"SELECT host, dashboard_url FROM {ACCOUNT_TABLE}").fetchone()
    if stored is None:
        connection.execute(f"INSERT INTO {ACCOUNT_TABLE} VALUES (?, ?)", [host, dashboard])
        return
    if stored[0] != host or (dashboard and stored[1] and stored[1] != dashboard):
        raise AccountMismatch(
            f"{settings.duckdb_path} holds the account {' '.join(filter(None, stored))}, but "
            f"INCIDENT_API_BASE_URL and the key lead to {' '.join(filter(None, (host, dashboard)))}"
            ": give each account a database of its own (INCIDENT_DUCKDB_PATH)"
        )
    if dashboard and not stored[1]:
        connection.execute(f"UPDATE {ACCOUNT_TABLE} SET dashboard_url = ?", [dashboard])

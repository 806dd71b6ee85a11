"""Whose database it is: a database belongs to one account, and no other's rows get into it.

What a key may do there is found in `readiness`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import duckdb
import orjson

from incident_assets.api.session import Identity
from incident_assets.settings import Settings
from incident_assets.sync.listing import Listing
from incident_assets.warehouse.comments import Description
from incident_assets.warehouse.file import DatabaseError, has_table
from incident_assets.warehouse.schemas import ACCOUNT_TABLE, LOG_SCHEMA, name_table

ACCOUNT_TEXTS = Description(
    "The account that the database belongs to; no other one's rows get into it.",
    {
        "host": "Host of the API",
        "dashboard_url": "Address of the account's dashboard, where the API says it",
        "roles": "Roles that keys of this account have had",
    },
)


class AccountMismatch(DatabaseError):
    """The database holds another account's rows."""


@dataclass(frozen=True)
class Account:
    """What is known of the account and the key of a sync.

    `is_proven` where the API says whose key it is, or there is nothing to compare that with;
    `lost_roles` are those that a key of this database had at an earlier load, and this one has not.
    """

    is_proven: bool
    lost_roles: frozenset[str]


def prepare_account(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table that says whose database it is, or add what an older one lacks."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LOG_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {ACCOUNT_TABLE} (host VARCHAR, dashboard_url VARCHAR)"
    )
    connection.execute(f"ALTER TABLE {ACCOUNT_TABLE} ADD COLUMN IF NOT EXISTS roles VARCHAR[]")


def find_account(
    connection: duckdb.DuckDBPyConnection, settings: Settings, identity: Identity | None
) -> Account:
    """Return what is known of the account and the key, by what the database remembers of them.

    An account is its API host and, where `/v1/identity` answers, its dashboard's address. Raises
    AccountMismatch if the database belongs to another one.
    """
    stored = _read_account(connection)
    if stored is None:
        return Account(True, frozenset())
    host = urlsplit(settings.require_base_url()).hostname
    dashboard = identity.dashboard_url if identity else None
    if stored.host != host or (dashboard and stored.dashboard not in (None, dashboard)):
        raise AccountMismatch(
            f"{settings.database_name} holds the account {_show(stored.host, stored.dashboard)}, "
            f"but INCIDENT_API_BASE_URL and the key lead to {_show(host, dashboard)}: give each "
            f"account a database of its own ({settings.database_setting}), or, if it is the same "
            "account under a new address, say so by `incident-assets check --accept-account`"
        )
    if identity is None:
        return Account(stored.dashboard is None, frozenset())
    return Account(True, stored.roles.difference(identity.roles))


def remember_account(
    connection: duckdb.DuckDBPyConnection, settings: Settings, identity: Identity | None
) -> None:
    """Remember the account, and the roles of its key beside those that it had before."""
    stored = _read_account(connection)
    dashboard = identity.dashboard_url if identity else None
    dashboard = dashboard or (stored.dashboard if stored else None)
    roles = frozenset(identity.roles if identity else ()) | (
        stored.roles if stored else frozenset()
    )
    if stored is None or (dashboard, roles) != (stored.dashboard, stored.roles):
        _store_account(connection, settings, dashboard, roles)


def accept_account(
    connection: duckdb.DuckDBPyConnection, settings: Settings, identity: Identity
) -> None:
    """Let the database belong to the account that address and key lead to, with its roles."""
    prepare_account(connection)
    _store_account(connection, settings, identity.dashboard_url, identity.roles)


class _Stored(NamedTuple):
    host: str | None
    dashboard: str | None
    roles: frozenset[str]


def _read_account(connection: duckdb.DuckDBPyConnection) -> _Stored | None:
    if not has_table(connection, ACCOUNT_TABLE):
        return None
    row = connection.execute(f"SELECT to_json(account) FROM {ACCOUNT_TABLE} AS account").fetchone()
    known = orjson.loads(row[0]) if row else None  # an older table has no roles
    return known and _Stored(
        known["host"], known["dashboard_url"], frozenset(known.get("roles") or ())
    )


def _store_account(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    dashboard: str | None,
    roles: Iterable[str],
) -> None:
    host = urlsplit(settings.require_base_url()).hostname
    connection.execute(f"DELETE FROM {ACCOUNT_TABLE}")
    connection.execute(
        f"INSERT INTO {ACCOUNT_TABLE} (host, dashboard_url, roles) VALUES (?, ?, ?)",
        [host, dashboard, sorted(roles)],
    )


def _show(host: str | None, dashboard: str | None) -> str:
    return " ".join(filter(None, (host, dashboard)))


def recognise_rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, listings: Iterable[Listing]
) -> None:
    """Raise AccountMismatch if rows were listed and none of them is known to the database.

    For a key of which the API does not say whose it is.
    """
    listed = [listing for listing in listings if listing.is_whole and listing.rows]
    for listing in listed:
        table = name_table(listing.name)
        shared = f"SELECT 1 FROM {table} SEMI JOIN {listing.spool.sql} USING (id) LIMIT 1"
        if has_table(connection, table) and connection.execute(shared).fetchone():
            return
    if listed:
        raise AccountMismatch(
            f"/v1/identity does not say whose key it is, and none of the {listed[0].rows} "
            f"{listed[0].name} that it lists is known to {settings.database_name}, which holds an "
            "account's rows: sync again when /v1/identity answers, or give this key a database of "
            f"its own ({settings.database_setting})"
        )

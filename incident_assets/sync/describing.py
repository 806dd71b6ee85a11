"""What every table that a sync writes says of itself, as comments in the database.

The words stand with each table.
"""

from collections.abc import Collection

import duckdb

from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.sync.account import ACCOUNT_TEXTS
from incident_assets.sync.log import LOG_TABLE, LOG_TEXTS
from incident_assets.sync.personal import PERSONAL_TEXTS
from incident_assets.warehouse.comments import describe_endpoint, write_comments
from incident_assets.warehouse.history import PERIOD_TEXTS, describe_history, name_history
from incident_assets.warehouse.schemas import (
    ACCOUNT_TABLE,
    PERIOD_TABLE,
    PERSONAL_TABLE,
    VERSION_TABLE,
    name_table,
)
from incident_assets.warehouse.versions import COMMENTS, VERSION_TEXTS, note_fact, sign


def describe_tables(
    connection: duckdb.DuckDBPyConnection, written: Collection[Endpoint], said: str | None
) -> None:
    """Write comments where they are others than what is `said`, or tables were written.

    Part of the caller's transaction.
    """
    texts = {
        LOG_TABLE: LOG_TEXTS,
        ACCOUNT_TABLE: ACCOUNT_TEXTS,
        VERSION_TABLE: VERSION_TEXTS,
        PERIOD_TABLE: PERIOD_TEXTS,
        PERSONAL_TABLE: PERSONAL_TEXTS,
        **{name_table(x.name): describe_endpoint(x) for x in ENDPOINTS},
        **{name_history(x.name): describe_history(x) for x in ENDPOINTS},
    }
    version = sign(texts)
    if written or version != said:
        raw = {name_table(x.name): describe_endpoint(x) for x in written}
        write_comments(connection, texts | raw)
        note_fact(connection, COMMENTS, version)

"""The marts that the report is made from: which they are, and how they come out of a database.

Light, since the definitions name them; what is made of their rows is in `numbers`.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from incident_assets.models.catalog import MODEL_SCHEMA

# The tables of the models, by their names in `Marts`.
MARTS = {
    "weekly": "mart_incident_weekly",
    "trend": "mart_incident_trend",
    "stays": "mart_time_in_status_recent",
    "changes": "mart_severity_changes",
    "load": "mart_responder_load",
    "ageing": "mart_follow_up_ageing",
    "flow": "mart_follow_up_flow",
    "moments": "dim_moment",
}


@dataclass(frozen=True)
class Marts:
    """The marts, and dim_moment, with the columns that the models promise; any may be empty."""

    weekly: pa.Table
    trend: pa.Table
    stays: pa.Table
    changes: pa.Table
    load: pa.Table
    ageing: pa.Table
    flow: pa.Table
    moments: pa.Table


def read_marts(connection: duckdb.DuckDBPyConnection) -> Marts:
    """Return the marts of a database that has all of them."""
    tables = {name: f"{MODEL_SCHEMA}.{mart}" for name, mart in MARTS.items()}
    return Marts(**{x: connection.table(table).to_arrow_table() for x, table in tables.items()})

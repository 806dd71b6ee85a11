"""Names of the schemas of a database, and of tables in them that several rooms know.

What stands in them is decided where it is written.
"""

RAW_SCHEMA = "incident_api"
REFRESH_SCHEMA = "incident_api_refresh"  # only while a full refresh is going on
HISTORY_SCHEMA = "incident_history"
LOG_SCHEMA = "incident_sync"
MODEL_SCHEMA = "incident_analytics"
ACCOUNT_TABLE = f"{LOG_SCHEMA}.account"
FINDING_TABLE = f"{LOG_SCHEMA}.finding"
PERIOD_TABLE = f"{HISTORY_SCHEMA}._period"
PERSONAL_TABLE = f"{LOG_SCHEMA}.personal_data"
VERSION_TABLE = f"{LOG_SCHEMA}.table_version"


def name_table(resource: str) -> str:
    """Return the raw table of a resource."""
    return f"{RAW_SCHEMA}.{resource}"

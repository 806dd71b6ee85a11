"""Names of the schemas of a database. What stands in them is decided where it is written."""

RAW_SCHEMA = "incident_api"
REFRESH_SCHEMA = "incident_api_refresh"  # only while a full refresh is going on
LOG_SCHEMA = "incident_sync"
MODEL_SCHEMA = "incident_analytics"

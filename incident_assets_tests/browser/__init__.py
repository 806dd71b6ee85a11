"""The Dagster UI and the report in a real browser, and the pictures of README and docs."""

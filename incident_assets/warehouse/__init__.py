"""The DuckDB file: opening and locking it, dlt's destination, merging, publishing."""

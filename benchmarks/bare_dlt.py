"""Bare dlt: the configuration that the project began with (docs/seed.md), run as it stands.

What dlt refuses, the paginators' key `limit`, is left out. `python -m benchmarks.bare_dlt
[parquet] [flat]` switches the file format of its load packages and `max_table_nesting=0` on.
"""

import json
import os
import sys
import time
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source

from incident_assets.api.endpoints import ENDPOINTS, Endpoint


def build_config(base_url: str, key: str) -> Any:
    """Return the rest_api configuration that the project began with."""
    return {
        "client": {"base_url": base_url, "auth": {"type": "bearer", "token": key}},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {"name": endpoint.name, "endpoint": _build_endpoint(endpoint)} for endpoint in ENDPOINTS
        ],
    }


def _build_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    paged = {
        "paginator": {
            "type": "cursor",
            "cursor_path": "pagination_meta.after",
            "cursor_param": "after",
        }
    }
    way = endpoint.ways[-1]  # the one that the project began with
    return {
        "path": way.path,
        "data_selector": endpoint.name,
        **(paged if way.page_size else {}),
    }


def main() -> None:
    """Load once; print the seconds after imports as JSON."""
    begun = time.perf_counter()
    config = build_config(os.environ["INCIDENT_API_BASE_URL"], os.environ["INCIDENT_API_KEY"])
    nesting = {"max_table_nesting": 0} if "flat" in sys.argv else {}
    format_ = {"loader_file_format": "parquet"} if "parquet" in sys.argv else {}
    pipeline = dlt.pipeline(
        "bare",
        destination=dlt.destinations.duckdb(os.environ["INCIDENT_DUCKDB_PATH"]),
        dataset_name="incident_api",
    )
    pipeline.run(rest_api_source(config, **nesting), **format_)  # type: ignore[arg-type]
    print(json.dumps({"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()

"""Airbyte's low-code CDK against the API: a manifest, its own command, and a file per stream.

`python -m benchmarks.airbyte PYTHON` asks as the table does (newest path, page size, parameters).
Retries are the CDK's default, but that Retry-After is kept to, as its documentation has it for an
API that sends one. The files stand for a destination in the mode Full Refresh, Overwrite + Deduped:
a stream replaces its file when the CDK says that it is complete, one row per id.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.singer import FOLDER, describe_schema
from incident_assets.api.endpoints import ENDPOINTS, Endpoint

AFTER = "response.get('pagination_meta', {}).get('after')"


def build_manifest() -> dict[str, Any]:
    """Return the manifest; JSON is YAML."""
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["severities"]},
        "streams": [_build_stream(endpoint) for endpoint in ENDPOINTS],
        "spec": {
            "type": "Spec",
            "connection_specification": {
                "type": "object",
                "required": ["base_url", "key"],
                "properties": {
                    "base_url": {"type": "string"},
                    "key": {"type": "string", "airbyte_secret": True},
                },
            },
        },
    }


def _build_stream(endpoint: Endpoint) -> dict[str, Any]:
    way = endpoint.newest
    query = {**way.params, **({"page_size": way.page_size} if way.page_size else {})}
    variants = [urlencode({**query, **variant}, doseq=True) for variant in way.variants]
    retriever: dict[str, Any] = {
        "type": "SimpleRetriever",
        "requester": {
            "type": "HttpRequester",
            "url_base": "{{ config['base_url'] }}",
            "path": f"{way.path}?{{{{ stream_partition['query'] }}}}",
            "authenticator": {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"},
            "error_handler": {
                "type": "DefaultErrorHandler",
                "backoff_strategies": [
                    {"type": "WaitTimeFromHeader", "header": "Retry-After"},
                    {"type": "ExponentialBackoffStrategy", "factor": 5},
                ],
            },
        },
        "record_selector": {
            "type": "RecordSelector",
            "extractor": {"type": "DpathExtractor", "field_path": [endpoint.name]},
        },
        "partition_router": {
            "type": "ListPartitionRouter",
            "cursor_field": "query",
            "values": variants,
        },
    }
    if way.page_size:
        retriever["paginator"] = {
            "type": "DefaultPaginator",
            "page_token_option": {
                "type": "RequestOption",
                "inject_into": "request_parameter",
                "field_name": "after",
            },
            "pagination_strategy": {
                "type": "CursorPagination",
                "cursor_value": f"{{{{ {AFTER} }}}}",
                "stop_condition": f"{{{{ not {AFTER} }}}}",
            },
        }
    return {
        "type": "DeclarativeStream",
        "name": endpoint.name,
        "primary_key": ["id"],
        "retriever": retriever,
        "schema_loader": {"type": "InlineSchemaLoader", "schema": describe_schema(endpoint)},
    }


def main() -> int:
    """Read all streams, put what is complete into files and return the command's exit code."""
    streams = [
        {
            "stream": {"name": e.name, "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
            "sync_mode": "full_refresh",
            "destination_sync_mode": "overwrite",
            "primary_key": [["id"]],
        }
        for e in ENDPOINTS
    ]
    config = {
        "base_url": os.environ["INCIDENT_API_BASE_URL"],
        "key": os.environ["INCIDENT_API_KEY"],
    }
    files = {"manifest-path": build_manifest(), "config": config, "catalog": {"streams": streams}}
    options = []
    for name, content in files.items():
        Path(f"{name}.yaml").write_text(json.dumps(content))
        options += [f"--{name}", f"{name}.yaml"]
    cdk = Path(sys.argv[1]).with_name("source-declarative-manifest")
    command = [str(cdk), "read", *options]
    rows: dict[str, dict[str, Any]] = {endpoint.name: {} for endpoint in ENDPOINTS}
    FOLDER.mkdir(exist_ok=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            message = json.loads(line)
            if message["type"] == "RECORD":
                row = message["record"]["data"]
                rows[message["record"]["stream"]][row["id"]] = row
            status = message.get("trace", {}).get("stream_status") or {}
            if status.get("status") == "COMPLETE":
                name = status["stream_descriptor"]["name"]
                (FOLDER / f"{name}.json").write_text(json.dumps(list(rows[name].values())))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())

"""A Singer tap and target made with singer-sdk, as its documentation has them.

`python -m benchmarks.singer PYTHON` pipes the tap into the target. The tap asks as the table does
(newest path, page size, parameters); retries, timeouts, paginator and validation are the SDK's
defaults. The target writes a file per stream and updates rows by their key properties.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from incident_assets.api.endpoints import ENDPOINTS, Endpoint

FOLDER = Path("rows")
TYPES: Mapping[str, Sequence[str]] = {
    "text": ["string"],
    "bigint": ["integer"],
    "double": ["number"],
    "bool": ["boolean"],
    "timestamp": ["string"],
    "json": ["object", "array", "string", "number", "boolean"],
}


def describe_schema(endpoint: Endpoint) -> dict[str, Any]:
    """Return the JSON schema of a resource, as the table has its columns."""
    return {
        "type": "object",
        "properties": {
            column.name: {"type": [*TYPES[column.type], *(["null"] if column.nullable else [])]}
            for column in endpoint.columns
        },
    }


def tap() -> None:
    """Write all records to standard output as Singer messages."""
    from singer_sdk import RESTStream, Tap

    class ApiStream(RESTStream[str]):
        url_base = os.environ["INCIDENT_API_BASE_URL"]
        primary_keys = ("id",)
        next_page_token_jsonpath = "$.pagination_meta.after"
        endpoint: Endpoint

        @property
        def records_jsonpath(self) -> str:
            return f"$.{self.name}[*]"

        @property
        def http_headers(self) -> dict[str, str]:
            return {"Authorization": f"Bearer {os.environ['INCIDENT_API_KEY']}"}

        @property
        def partitions(self) -> list[dict[str, Any]] | None:
            variants = self.endpoint.newest.variants
            return [{"variant": dict(variant)} for variant in variants]

        def get_url_params(self, context: Any, next_page_token: str | None) -> str:
            way = self.endpoint.newest
            size = {"page_size": way.page_size} if way.page_size else {}
            after = {"after": next_page_token} if next_page_token else {}
            return urlencode({**way.params, **size, **context["variant"], **after}, doseq=True)

    class ApiTap(Tap):
        name = "tap-incidents"

        def discover_streams(self) -> list[ApiStream]:
            streams = []
            for endpoint in ENDPOINTS:
                schema = describe_schema(endpoint)
                stream = ApiStream(self, endpoint.name, schema, endpoint.newest.path)
                stream.endpoint = endpoint
                streams.append(stream)
            return streams

    ApiTap.cli(args=[])


def target() -> None:
    """Read Singer messages and update the files."""
    from singer_sdk import BatchSink, Target

    class FileSink(BatchSink):
        def process_batch(self, context: dict[str, Any]) -> None:
            path = FOLDER / f"{self.stream_name}.json"
            old = json.loads(path.read_text()) if path.exists() else []
            rows = {row["id"]: row for row in [*old, *context.get("records", ())]}
            path.write_text(json.dumps(list(rows.values()), default=str))

    class FileTarget(Target):
        name = "target-files"
        default_sink_class = FileSink

    FileTarget.cli(args=[])


def main() -> int:
    """Pipe the tap into the target; as in a shell with pipefail, either's failure counts."""
    FOLDER.mkdir(exist_ok=True)
    command = [sys.argv[1], "-c"]
    script = "from benchmarks import singer; singer.{}()"
    with (
        subprocess.Popen([*command, script.format("tap")], stdout=subprocess.PIPE) as source,
        subprocess.Popen([*command, script.format("target")], stdin=source.stdout) as sink,
    ):
        if source.stdout:
            source.stdout.close()
        sink.wait()
    return sink.returncode or source.returncode


if __name__ == "__main__":
    sys.exit(main())

"""The floor: what loading the same rows costs by hand, without any framework.

Concurrent fetch, rows as newline-delimited JSON on disk, DuckDB's reader into typed tables. No
retries, no page checks, no incremental sync, no history: nothing here is meant to be used.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import duckdb
import orjson

from incident_assets.api.endpoints import ENDPOINTS, Endpoint

SQL_TYPES = {
    "text": "VARCHAR",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "json": "JSON",
}
SPOOL = Path("spool")


async def fetch_all(url: str, key: str) -> None:
    """Write the rows of all resources to `spool/<resource>.json`, a line each."""
    SPOOL.mkdir(exist_ok=True)
    await asyncio.gather(*(_fetch(endpoint, url, key) for endpoint in ENDPOINTS))


async def _fetch(endpoint: Endpoint, url: str, key: str) -> None:
    with (SPOOL / f"{endpoint.name}.json").open("wb") as file:
        async for rows in _walk(endpoint, url, key):
            file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


async def _walk(endpoint: Endpoint, url: str, key: str) -> AsyncIterator[list[object]]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    way = endpoint.newest
    for variant in way.variants:
        params = {**way.params, **variant}
        if way.page_size:
            params["page_size"] = str(way.page_size)
        while True:
            query = urlencode(params, doseq=True, quote_via=quote)
            writer.write(
                f"GET {place.path}{way.path}?{query} HTTP/1.1\r\nHost: {place.netloc}\r\n"
                f"Authorization: Bearer {key}\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head[:20]:
                raise RuntimeError(f"{endpoint.name}: {head[:20]!r}")
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = orjson.loads(await reader.readexactly(length))
            yield body[endpoint.name]
            after = body.get("pagination_meta", {}).get("after")
            if not after:
                break
            params["after"] = after
    writer.close()


def load_all(database: str) -> None:
    """Replace the thirteen tables of schema incident_api by what is in the spool."""
    with duckdb.connect(database) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS incident_api")
        for endpoint in ENDPOINTS:
            columns = {column.name: SQL_TYPES[column.type] for column in endpoint.columns}
            connection.execute(
                f"CREATE OR REPLACE TABLE incident_api.{endpoint.name} AS SELECT * FROM read_json("
                f"'{SPOOL}/{endpoint.name}.json', format='newline_delimited', columns={columns})"
            )


def main() -> None:
    """Fetch and load once; print the seconds after imports as JSON."""
    begun = time.perf_counter()
    asyncio.run(fetch_all(os.environ["INCIDENT_API_BASE_URL"], os.environ["INCIDENT_API_KEY"]))
    fetched = time.perf_counter()
    load_all(os.environ["INCIDENT_DUCKDB_PATH"])
    ended = time.perf_counter()
    steps = {"extract": fetched - begun, "load": ended - fetched}
    print(json.dumps({"seconds": ended - begun, "steps": steps}))


if __name__ == "__main__":
    main()

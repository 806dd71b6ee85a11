"""How a row of the table of resources looks in Dagster: key, group, kinds, metadata.

Everything that the UI shows of a raw asset before its first run is decided here.
"""

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg
import dlt
from dagster_dlt import DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

from incident_assets.api import endpoints
from incident_assets.api.endpoints import ENDPOINTS, Column, Endpoint
from incident_assets.api.rows import build_columns
from incident_assets.checks.freshness import fail_window, warn_window
from incident_assets.warehouse.columns import DUCKDB_TYPES
from incident_assets.warehouse.schemas import RAW_SCHEMA, name_table

ROW = re.compile(r'^ {8}name="(\w+)",$')  # the line of the table that names a resource
API_KEY = dg.AssetKey("incident_api_source")


def raw_key(name: str) -> dg.AssetKey:
    """Return the asset key of a resource: schema, then table."""
    return dg.AssetKey([RAW_SCHEMA, name])


@dataclass
class IncidentTranslator(DagsterDltTranslator):
    """Makes the asset spec of a dlt resource from its row among these of the table."""

    endpoints: Sequence[Endpoint]

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """Return the spec; skippable, since what cannot be read is not materialised."""
        endpoint = next(row for row in self.endpoints if row.name == data.resource.name)
        return dg.AssetSpec(
            key=raw_key(endpoint.name),
            deps=[API_KEY],
            group_name=endpoint.group,
            kinds={"dlt", "duckdb"},
            skippable=True,
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=fail_window(endpoint), warn_window=warn_window(endpoint)
            ),
            description=f"{endpoint.description}\n\nGrain: {endpoint.grain}.",
            tags={"cadence": endpoint.group, "layer": "raw"},
            metadata={
                "dagster/table_name": name_table(endpoint.name),
                "dagster/column_schema": describe_columns(build_columns(endpoint)),
                "endpoint": endpoint.newest.path,
                "page_size": endpoint.newest.page_size or "not paginated",
                **_find_row(endpoint),
            },
        )


def build_raw_specs(endpoints: Sequence[Endpoint]) -> Iterator[dg.AssetSpec]:
    """Yield the spec of each resource, in the table's order."""
    translator = IncidentTranslator(endpoints)
    for endpoint in endpoints:
        resource = dlt.resource([], name=endpoint.name)
        yield translator.get_asset_spec(DltResourceTranslatorData(resource=resource, pipeline=None))


def describe_columns(columns: list[Column]) -> dg.TableSchema:
    """Return Dagster's column schema of these columns."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                DUCKDB_TYPES[column.type],
                column.description,
                dg.TableColumnConstraints(nullable=column.nullable, unique=column.name == "id"),
            )
            for column in columns
        ]
    )


def describe_tables(tables: Mapping[str, str]) -> dg.TableSchema:
    """Return what says which tables, by name and text, are in an asset that is not a table."""
    return dg.TableSchema([dg.TableColumn(name, "TABLE", text) for name, text in tables.items()])


def link_code(path: str, line: int, label: str) -> dict[str, Any]:
    """Return the metadata that leads to a line of the code."""
    with warnings.catch_warnings():
        # Dagster has no other way to say it; a user can do nothing about that.
        warnings.simplefilter("ignore", dg.BetaWarning)
        found = dg.LocalFileCodeReference(file_path=path, line_number=line, label=label)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[found])}


def _find_row(endpoint: Endpoint) -> dict[str, Any]:
    line = _find_lines().get(endpoint.name)
    if line is None or endpoint.name not in {row.name for row in ENDPOINTS}:
        return {}  # nobody knows where a row from outside is written
    return link_code(inspect.getfile(endpoints), line, endpoint.name)


@cache
def _find_lines() -> Mapping[str, int]:
    """Return the line of the table where a row is named, by name; none without the source."""
    try:
        lines, _ = inspect.getsourcelines(endpoints)
    except OSError:
        return {}
    found = ((number, ROW.search(text)) for number, text in enumerate(lines, 1))
    return {row[1]: number for number, row in found if row}

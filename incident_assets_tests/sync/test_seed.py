"""The generated dlt configuration differs from the project's first one exactly as documented."""

from pathlib import Path
from typing import Any

import pytest

from incident_assets.api.endpoints import ENDPOINTS, find_endpoint
from incident_assets.sync.fetch import build_config

URL = "https://api.example.com"
DOCUMENT = Path(__file__).parents[2] / "docs" / "seed.md"
FIRST_VERSIONS = {"incident_roles": "v1", "incident_statuses": "v1", "severities": "v1"}
CURSOR = {
    "type": "cursor",
    "limit": 100,
    "cursor_param": "after",
    "cursor_path": "pagination_meta.after",
}
RESOURCES = [
    "actions",
    "catalog_types",
    "custom_fields",
    "follow_ups",
    "incident_roles",
    "incident_timestamps",
    "incident_updates",
    "incident_statuses",
    "workflows",
    "users",
    "severities",
    "schedules",
    "incidents",
]


def build_seed() -> dict[str, Any]:
    def endpoint(name: str) -> dict[str, Any]:
        path = f"/{FIRST_VERSIONS.get(name, 'v2')}/{name}"
        paged = name in ("incident_updates", "users", "schedules", "incidents")
        return {"path": path, "data_selector": name} | ({"paginator": CURSOR} if paged else {})

    return {
        "client": {"base_url": URL, "auth": 'bearer, `dlt.secrets["api_key"]`'},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [{"name": name, "endpoint": endpoint(name)} for name in RESOURCES],
    }


def flatten(value: Any, *path: str) -> dict[tuple[str, ...], str]:
    if isinstance(value, dict):
        return {k: v for key, x in value.items() for k, v in flatten(x, *path, key).items()}
    if isinstance(value, list):
        return {path: ", ".join(value)}
    if isinstance(value, str | int):
        return {path: str(value)}
    return {path: f"`{type(value).__name__}`"}


def describe(config: dict[str, Any]) -> dict[tuple[str, str], str]:
    sections = {"(client)": config["client"], "(defaults)": config["resource_defaults"]}
    sections |= {resource["name"]: resource["endpoint"] for resource in config["resources"]}
    return {
        (name, ".".join(path)): text
        for name, section in sections.items()
        for path, text in flatten(section).items()
    }


def read_documented() -> set[tuple[str, ...]]:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][2:]
    return {tuple(cell.strip() for cell in row.strip("|").split(" | ")[:4]) for row in rows}


def test_differences_are_exactly_the_documented_ones() -> None:
    ours, seed = describe(build_config(ENDPOINTS, URL)), describe(build_seed())
    differences = {
        (*key, seed.get(key, "-"), ours.get(key, "-"))
        for key in ours.keys() | seed.keys()
        if ours.get(key) != seed.get(key)
    }
    assert differences == read_documented()


def test_every_resource_is_there_in_the_seeds_order() -> None:
    assert [endpoint.name for endpoint in ENDPOINTS] == RESOURCES


def test_a_name_that_no_resource_has_is_answered_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no resource 'alerts'; there are actions, .*, incidents"):
        find_endpoint("alerts")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_no_two_resources_share_a_params_dict(endpoint: Any) -> None:
    # dlt hands one dict to all resources without their own, and a filter leaks into the others.
    resources = build_config(ENDPOINTS, URL)["resources"]
    own = [r["endpoint"]["params"] for r in resources if r["name"] == endpoint.name]
    others = [r["endpoint"]["params"] for r in resources if r["name"] != endpoint.name]
    assert all(own[0] is not params for params in others)

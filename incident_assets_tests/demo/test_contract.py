"""Every response of the bundled API is valid under the API's own contract.

The contract's path comes from INCIDENT_API_CONTRACT; without it this file is not collected.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from incident_assets.demo.account import generate_account
from incident_assets.demo.listings import CATEGORIES, MODES, PATHS, TASK_MODES
from incident_assets.demo.server import DemoApi
from incident_assets_tests.demo.conftest import CONTRACT

QUERIES = {
    "incidents": [
        {},
        {"page_size": "250", "mode[one_of]": MODES, "status_category[one_of]": CATEGORIES},
        {"created_at[date_range]": "2026-01-01~2026-12-31"},
    ],
    "schedules": [{}, {"page_size": "250"}],
    "users": [{}, {"include_inactive": "true", "page_size": "10"}],
    "actions": [{}, *({"incident_mode": mode} for mode in TASK_MODES)],
    "follow_ups": [{}, *({"incident_mode": mode} for mode in TASK_MODES)],
}


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    return json.loads(Path(CONTRACT).read_text())


@pytest.fixture(scope="module")
def served() -> Iterator[DemoApi]:
    with DemoApi(generate_account(300)) as api:
        yield api


def close(schema: Any) -> Any:
    """Return a JSON schema of an OpenAPI 3.0 one that knows no fields but its own."""
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items() if key != "example"}
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    if closed.pop("nullable", False):
        closed = {"anyOf": [closed, {"type": "null"}]}
    return closed


def walk(api: DemoApi, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    query = dict(query)
    while True:
        headers = {"Authorization": f"Bearer {api.key}"}
        body = requests.get(api.url + path, params=query, headers=headers, timeout=10).json()
        yield body
        after = body.get("pagination_meta", {}).get("after")
        if not after:
            return
        query["after"] = after


@pytest.mark.parametrize("path", [*PATHS, "/v1/identity"])
def test_responses_hold_to_the_contract(
    path: str, contract: dict[str, Any], served: DemoApi
) -> None:
    answer = contract["paths"][path]["get"]["responses"]["200"]
    schema = close(answer["content"]["application/json"]["schema"])
    validator = jsonschema.Draft202012Validator(
        schema | {"components": close(contract["components"])},
        format_checker=jsonschema.FormatChecker(),
    )
    for query in QUERIES.get(PATHS.get(path, ""), [{}]):
        for body in walk(served, path, query):
            errors = [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(body)]
            assert not errors[:5]

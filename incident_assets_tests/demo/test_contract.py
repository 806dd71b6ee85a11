"""Every response of the bundled API is valid under the API's own contract of its year.

INCIDENT_API_CONTRACT is the path of the newest, INCIDENT_API_CONTRACT_BEFORE that of August 2026;
a year whose contract is not given is left out, and this file where neither is.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from incident_assets.demo.account import generate_account
from incident_assets.demo.listings import CATEGORIES, MODES, TASK_MODES
from incident_assets.demo.server import DemoApi
from incident_assets.demo.versions import PATHS, Calendar
from incident_assets_tests.demo.conftest import CONTRACTS

QUERIES = {
    "incidents": [
        {},
        {"page_size": "250", "mode[one_of]": MODES, "status_category[one_of]": CATEGORIES},
        {"created_at[date_range]": "2026-01-01~2026-12-31"},
    ],
    "schedules": [{}, {"page_size": "250"}],
    "users": [{}, {"include_inactive": "true", "page_size": "10"}],
    "actions": [{}, {"page_size": "250"}, *({"incident_mode": mode} for mode in TASK_MODES)],
    "follow_ups": [{}, {"page_size": "250"}, *({"incident_mode": mode} for mode in TASK_MODES)],
}
YEARS = [year for year, contract in CONTRACTS.items() if contract]


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


@cache
def read_contract(calendar: Calendar) -> dict[str, Any]:
    return json.loads(Path(CONTRACTS[calendar]).read_text())


def find_errors(schema: Any, calendar: Calendar, body: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        close(schema) | {"components": close(read_contract(calendar)["components"])},
        format_checker=jsonschema.FormatChecker(),
    )
    return [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(body)]


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


@pytest.mark.parametrize(
    ("calendar", "path"),
    [(year, path) for year in YEARS for path in (*PATHS[year], "/v1/identity")],
)
def test_responses_hold_to_the_contract(calendar: Calendar, path: str, served: DemoApi) -> None:
    answer = read_contract(calendar)["paths"][path]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    served.turn_to(calendar)
    for query in QUERIES.get(path.rpartition("/")[2], [{}]):
        for body in walk(served, path, query):
            assert not find_errors(schema, calendar, body)[:5]


@pytest.mark.skipif("now" not in YEARS, reason="the contract of August has no schema of errors")
@pytest.mark.parametrize(
    ("asked", "key", "status"),
    [
        ("/v2/users", "other", 401),
        ("/v2/workflows", "demo-key", 403),
        ("/v2/actions", "demo-key", 404),
        ("/v3/actions?page_size=0", "demo-key", 422),
    ],
)
def test_errors_hold_to_the_contract(asked: str, key: str, status: int, served: DemoApi) -> None:
    served.turn_to("2027")
    served.forbid("workflows")
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.get(served.url + asked, headers=headers, timeout=10)
    served.permit("workflows")
    schema = {"$ref": "#/components/schemas/ErrorResponse"}
    assert answer.status_code == status and not find_errors(schema, "2027", answer.json())

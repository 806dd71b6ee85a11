"""Whose rows get into a database: accounts that are silent, renamed or another, keys with less."""

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.checks.volume import check_volume
from incident_assets.demo.faults import Fault, edit, status
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.account import AccountMismatch
from incident_assets.sync.run import run_sync
from incident_assets_tests.conftest import read_table, run_command

Load = Callable[..., Any]


@pytest.fixture
def load(settings: Settings) -> Load:
    """Sync these resources in full; outcomes by resource."""

    def run(*names: str) -> Any:
        return {outcome.resource: outcome for outcome in run_sync(settings, names)}

    return run


def be_another_account(body: dict[str, Any]) -> None:
    for item in body["users"]:
        item["id"] = f"other-{item['id']}"


@pytest.mark.fault(
    "/v1/identity does not answer",
    "it is asked again like any request; then what is listed must share an id with the tables",
    "no other account's row is let in",
)
def test_a_silent_identity_lets_no_other_account_in(api: DemoApi, load: Load) -> None:
    load("users", "severities")
    before = read_table("users")
    api.inject(Fault(status(503), path="/v1/identity"))
    api.reset_log()
    assert load("users")["users"].outcome == "loaded"
    assert [request.path for request in api.requests].count("/v1/identity") == 4
    api.inject(Fault(edit(be_another_account), resource="users"))
    with pytest.raises(AccountMismatch, match=r"none of the .* users that it lists is known"):
        load("users")
    assert read_table("users") == before
    # One that is known is enough: new rows are no other account's.
    assert load("users", "severities")["users"].outcome == "held"


def test_an_identity_that_stumbles_is_asked_again(api: DemoApi, load: Load) -> None:
    load("users")
    api.account.identity["dashboard_url"] = "https://app.example.com/other"
    api.inject(Fault(status(502), path="/v1/identity", first=3))
    with pytest.raises(AccountMismatch, match=r"example\.com/other"):
        load("users")


@pytest.mark.slow
def test_an_account_under_a_new_address_is_accepted_by_name(api: DemoApi, load: Load) -> None:
    load("users")
    api.account.identity["dashboard_url"] = "https://app.example.com/renamed"
    with pytest.raises(AccountMismatch, match="check --accept-account"):
        load("users")
    refused = run_command("incident_assets", "check")
    assert refused.returncode == 1 and "--accept-account" in refused.stdout
    accepted = run_command("incident_assets", "check", "--accept-account")
    assert accepted.returncode == 0, accepted.stdout
    assert load("users")["users"].outcome == "loaded"
    api.inject(Fault(status(404), path="/v1/identity"))
    silent = run_command("incident_assets", "check", "--accept-account")
    assert silent.returncode == 1 and "nothing was accepted" in silent.stdout


@pytest.mark.slow
@pytest.mark.fault(
    "the key has lost a role",
    "nothing is marked as deleted; volume and `check` say so, until the role is back or accepted",
    "every row",
)
def test_a_key_that_lost_a_role_marks_nothing(api: DemoApi, load: Load) -> None:
    load("users")
    gone = api.rows("users")[0]["id"]
    api.remove("users", gone)
    api.account.identity["roles"] = ["viewer"]
    for _ in range(2):
        outcome = load("users")["users"]
        assert (outcome.outcome, outcome.deleted) == ("loaded", 0)
        assert "the key has lost global_access" in outcome.remark
    with duckdb.connect("data/incidents.duckdb", read_only=True) as connection:
        found = check_volume(connection, find_endpoint("users"))
    assert not found.passed and "global_access" in found.description
    assert "warning" in run_command("incident_assets", "check").stdout
    assert run_command("incident_assets", "check", "--accept-account").returncode == 0
    assert load("users")["users"].deleted == 1
    assert read_table("users")[gone]["_deleted_at"]


def test_a_key_with_its_role_back_marks_again(api: DemoApi, load: Load) -> None:
    load("users")
    api.account.identity["roles"] = []
    api.remove("users", api.rows("users")[0]["id"])
    assert load("users")["users"].deleted == 0
    api.account.identity["roles"] = ["viewer", "global_access", "owner"]
    assert load("users")["users"].deleted == 1

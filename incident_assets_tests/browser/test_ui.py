"""The Dagster UI and the report in a browser, from an empty project to a failure's reason.

In this order, so that the first tests see what nobody has loaded yet.
"""

import pytest

from incident_assets.demo import faults
from incident_assets.models.catalog import read_models
from incident_assets_tests.browser.ui import RUN, Ui
from incident_assets_tests.conftest import NAMES, read_rows

pytestmark = pytest.mark.browser

CHECKS = ("contract", "freshness", "integrity", "loaded", "volume")
PLOTS = 7
GROUPS = ("api", "reference", "live", "operations", "analytics", "outputs")


def test_the_graph_reads_from_the_api_to_the_marts(ui: Ui) -> None:
    ui.open("/asset-groups")
    left = {group: ui.find(f"//div[@data-tooltip='{group}']").rect["x"] for group in GROUPS}
    assert left["api"] < left["reference"] == left["live"] < left["analytics"] < left["outputs"]
    ui.open("/asset-groups?expanded=global@global:live")
    ui.see("incidents", "incident_updates", "actions", "follow_ups")


def test_one_asset_alone_is_loaded_and_its_checks_are_made(ui: Ui) -> None:
    ui.open("/assets/incident_api/users?view=checks")
    ui.see("Checks (5)", *(f"{check}\nNot Evaluated" for check in CHECKS))
    ui.open("/assets/incident_api/users")
    ui.see("Never materialized", "one row per user, leavers included", "Identifier, unique")
    ui.follow(ui.launch(lambda: ui.press("Materialize")), "Success")
    ui.open("/assets/incident_api/users?view=checks")
    ui.see(*(f"{check}\nSucceeded" for check in CHECKS))
    rows = len(ui.api.rows("users"))
    ui.open("/assets/incident_api/users?view=events")
    ui.see(f"dagster/row_count\n{rows}", "full_refresh\nfalse")
    ui.open("/assets/incident_api/severities")
    ui.see("Never materialized")


def test_materialize_all_loads_everything(loaded_ui: Ui) -> None:
    ui, copy = loaded_ui, loaded_ui.folder / "data/incidents.published.duckdb"
    for name in NAMES:
        query = f"SELECT count(*) AS n FROM incident_api.{name}"
        assert read_rows(query, str(copy))[0]["n"] == len(ui.api.rows(name)), name
    ui.open("/asset-groups", 1600, 480)
    ui.press_at("//*[text()='Hide navigation']")
    ui.open("/asset-groups", 1600, 480)
    models = f"analytics\n{len(read_models())}"
    ui.see("reference\n9", "live\n4", models, "operations\n1", "outputs\n2")
    ui.see_no_more("fetching statuses")
    ui.take_picture("graph")


def test_a_model_shows_its_columns_and_where_they_come_from(loaded_ui: Ui) -> None:
    loaded_ui.open("/assets/incident_analytics/mart_incident_weekly", 1280, 900)
    loaded_ui.see("mttr_median", "DOUBLE", "from fct_incident.mttr_seconds", "column lineage")
    loaded_ui.scroll_to("//*[text()='Columns']")
    loaded_ui.take_picture("table")


def test_the_plots_of_the_report_are_on_its_page(loaded_ui: Ui) -> None:
    loaded_ui.open("/assets/incident_analytics/reliability_report")
    loaded_ui.press_at("//*[text()='[Show Markdown]']")
    loaded_ui.see("Incidents per week", "Which follow-ups are ageing")
    widths = loaded_ui.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == PLOTS and min(widths) > 0
    loaded_ui.take_picture("plots")


@pytest.mark.parametrize("width", [1280, 768, 375])
def test_the_report_fits_its_window(loaded_ui: Ui, width: int) -> None:
    ui = loaded_ui
    ui.open((ui.folder / "data/incidents.report.html").as_uri(), width)
    ui.see("Incident reliability report", "Incidents per week", "Which follow-ups are ageing")
    assert ui.evaluate("document.documentElement.scrollWidth") == width
    shown = "[...document.querySelectorAll('svg')].map(plot => plot.getBoundingClientRect())"
    plots = [plot for plot in ui.evaluate(shown) if plot["width"]]
    assert len(plots) == PLOTS
    assert all(plot["left"] >= 0 and plot["right"] <= width for plot in plots)
    if width == 1280:
        ui.take_picture("report")


def test_a_full_refresh_is_chosen_in_the_launchpad(loaded_ui: Ui) -> None:
    ui = loaded_ui
    ui.open("/assets/incident_api/users")
    ui.press_at("//button[contains(., 'Materialize')]/following::button[1]")
    ui.press_at("//*[text()='Open launchpad']")
    ui.see("full_refresh: false", "listing: full", "accept_loss: []", "No errors")
    ui.replace_word("//span[contains(@class, 'cm-') and text()='false']", "true")
    ui.see("full_refresh: true", "No errors")
    ui.follow(
        ui.launch(lambda: ui.press_at("(//button[contains(., 'Materialize')])[last()]")), "Success"
    )
    ui.open("/assets/incident_api/users?view=events")
    ui.see("full_refresh\ntrue", f"dagster/row_count\n{len(ui.api.rows('users'))}")


def test_a_schedule_that_is_switched_on_ticks(loaded_ui: Ui) -> None:
    ui = loaded_ui
    ui.open("/locations/incident_assets/schedules/sync_reference_schedule")
    ui.see("Schedule has never run")
    switch = "//*[input[@type='checkbox']]"

    def tick() -> None:
        ui.press_at(switch)
        ui.see("Next tick")
        ui.see("1 run requested", within=RUN)

    run = ui.launch(tick)
    ui.press_at(switch)
    ui.see_no_more("Next tick")
    ui.follow(run, "Success")
    ui.open("/locations/incident_assets/schedules/sync_reference_schedule")
    ui.see("Tick history", "1 run requested", run[:8])
    assert "Next tick" not in ui.read()


def test_terminate_ends_a_run_and_the_next_one_finds_nothing_locked(loaded_ui: Ui) -> None:
    ui = loaded_ui
    ui.api.faults.append(faults.Fault(faults.hang(120), "users"))
    ui.open("/assets/incident_api/users")
    run = ui.launch(lambda: ui.press("Materialize"))
    ui.open(f"/runs/{run}")
    ui.see("syncing from", within=RUN)
    ui.press("Terminate")
    ui.press("Terminate 1 run")
    ui.follow(run, "Canceled")
    ui.api.faults.clear()
    ui.open("/assets/incident_api/users")
    ui.follow(ui.launch(lambda: ui.press("Materialize")), "Success")


def test_a_failed_asset_says_why_and_what_to_do(loaded_ui: Ui) -> None:
    ui = loaded_ui
    ui.api.forbidden.add("follow_ups")
    ui.open("/assets/incident_api/follow_ups")
    run = ui.launch(lambda: ui.press("Materialize"))
    ui.follow(run, "Failure")
    ui.api.forbidden.clear()
    ui.open("/assets/incident_api/follow_ups", 1400)
    ui.see("Failed in", run[:8], "Row count")
    ui.open("/assets/incident_api/follow_ups?view=checks&checkDetail=loaded", 1280, 540)
    ui.see("The key lacks follow_ups.view: grant it in the account's API key settings")
    ui.take_picture("failed")

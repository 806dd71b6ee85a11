"""What is read from the SQL: lineage of every column, words for every column, and a key."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from incident_assets.api.endpoints import find_endpoint
from incident_assets.api.rows import build_columns
from incident_assets.models.catalog import (
    CONSTANT,
    MODEL_SCHEMA,
    SETTING_SCHEMA,
    ColumnSource,
    Model,
    find_origins,
    read_models,
    write_kept,
)
from incident_assets.models.mappings import SETTINGS
from incident_assets.warehouse.history import ENDS
from incident_assets.warehouse.schemas import HISTORY_SCHEMA, RAW_SCHEMA
from incident_assets_tests.modelling import other_models
from incident_assets_tests.pages import ROOT

NAMES = (
    "dim_severity dim_status dim_user dim_role dim_custom_field dim_catalog_type dim_schedule "
    "dim_workflow dim_moment fct_incident fct_incident_timestamp fct_status_transition "
    "fct_incident_custom_field fct_role_assignment fct_action fct_follow_up fct_on_call_shift "
    "mart_incident_weekly mart_incident_trend mart_responder_load mart_follow_up_ageing "
    "mart_time_in_status mart_time_in_status_recent "
    "fct_incident_change mart_severity_changes mart_follow_up_flow"
).split()


def test_the_models_are_there() -> None:
    assert set(read_models()) == set(NAMES)
    for page in ("README.md", "docs/metrics.md", "CONTRIBUTING.md"):
        told = re.findall(r"(\d+)\s+models", (ROOT / page).read_text())
        assert {int(number) for number in told} == {len(NAMES)}, page


@pytest.mark.parametrize("model", read_models().values(), ids=lambda model: model.name)
def test_every_column_goes_back_to_a_raw_column_or_a_stated_constant(model: Model) -> None:
    for column in model.columns:
        origins = find_origins(ColumnSource(MODEL_SCHEMA, model.name, column.name))
        assert origins, column.name
        for origin in origins:
            if origin.schema == RAW_SCHEMA:
                known = [c.name for c in build_columns(find_endpoint(origin.table))]
                assert origin.column in known
            elif origin.schema == SETTING_SCHEMA:
                assert origin.column in SETTINGS[origin.table]
            elif origin.schema == HISTORY_SCHEMA:
                assert origin.column in {x.name for x in ENDS}
            else:
                assert origin.schema == CONSTANT
        # A column that is nothing but constants must be meant to be.
        if {origin.schema for origin in origins} == {CONSTANT}:
            assert (model.name, column.name) == ("fct_incident_change", "source")


def test_lineage_of_a_metric_ends_at_the_fields_of_the_api() -> None:
    origins = find_origins(ColumnSource(MODEL_SCHEMA, "mart_incident_weekly", "mtta_median"))
    assert {f"{origin.table}.{origin.column}" for origin in origins} == {
        "incidents.incident_timestamp_values",
        "incidents.mode",
        "incident_updates.created_at",
        "incident_updates.new_incident_status",
        "incident_statuses.category",
        "setting_moment.moment",
        "setting_status.category",
    }


@pytest.mark.parametrize("model", read_models().values(), ids=lambda model: model.name)
def test_every_model_says_what_it_is(model: Model) -> None:
    assert model.notes[0].endswith(".") and ":" not in model.notes[0].split(" ")[0]
    assert any(note.startswith("Source: ") for note in model.notes)
    names = [column.name for column in model.columns]
    assert set(model.grain) <= set(names)
    for column in model.columns:
        assert column.description, column.name
        assert column.type


def read_state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_model_that_was_edited_is_read_anew_and_nothing_is_written(tmp_path: Path) -> None:
    before = read_models()
    with other_models(tmp_path / "models") as folder:
        (folder / "lineage.json").write_text(write_kept(before))
        edited = folder / "dim_severity.sql"
        edited.write_text(edited.read_text().replace("    rank,", "    sum(rank) OVER () AS rank,"))
        state = read_state(folder)
        models = read_models()
        (rank,) = (column for column in models["dim_severity"].columns if column.name == "rank")
        assert rank.type == "HUGEINT"
        changed = {name for name in models if models[name] != before[name]}
        assert changed == {"dim_severity", "mart_incident_weekly"}
        assert read_state(folder) == state


def cut(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-100])


def merge(kept: Path) -> None:
    kept.write_text(f"<<<<<<< ours\n{kept.read_text()}=======\n")


@pytest.mark.parametrize("harm", [Path.unlink, cut, merge, lambda kept: kept.write_text("[]")])
def test_models_are_there_whatever_becomes_of_what_is_kept(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    before = read_models()
    with other_models(tmp_path / "models") as folder:
        harm(folder / "lineage.json")
        assert read_models() == before and list(read_models()) == list(before)


def test_types_are_those_of_the_duckdb_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_models()
    with other_models(tmp_path / "models") as folder:
        kept = write_kept(before).replace('"VARCHAR"', '"TEXT"')
        (folder / "lineage.json").write_text(kept)
        monkeypatch.setattr(duckdb, "__version__", "1.4.0")
        assert read_models() == before

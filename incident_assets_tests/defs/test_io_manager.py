"""Frames that assets return as tables of a real file, and tables as their inputs' frames."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pytest

from incident_assets.defs.duckdb import DuckDBResource
from incident_assets.defs.io_manager import DuckDBIOManager
from incident_assets_tests.conftest import read_rows

# pandas is in one of CI's environments only: see pyproject.toml.
LIBRARIES = [name for name in ("pyarrow", "polars", "pandas") if find_spec(name)]
AREAS = dg.StaticPartitionsDefinition(["eu", "us", "o'hare"])
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
BOTH = dg.MultiPartitionsDefinition({"day": DAYS, "area": AREAS})
BY_BOTH = {"day": "began_at", "area": "area"}
Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    """Materialize the selected assets (all if none) of those given, into a real file."""

    def run(*assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
        resources = {"io_manager": DuckDBIOManager(warehouse=DuckDBResource())}
        return dg.materialize(assets, instance=instance, resources=resources, **options)

    return run


def make_asset(give: Callable[[str], Any], expression: Any, partitions: Any) -> Any:
    """Return the asset `mine.parts`, which gives what `give` makes of a partition's key."""
    metadata = {"partition_expr": expression} if expression else {}

    @dg.asset(key_prefix="mine", metadata=metadata, partitions_def=partitions)
    def parts(context: dg.AssetExecutionContext) -> Any:
        return give(context.partition_key)

    return parts


def give_area(area: str, amount: Any = 1) -> pa.Table:
    return pa.table({"area": [area], "amount": [amount]})


def give_day(day: str, zone: str = "UTC") -> pa.Table:
    """Return the first and the last hour of a day of a zone, as points in time."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    at = pa.array([start, start + timedelta(hours=23)], pa.timestamp("us", "UTC"))
    return pa.table({"began_at": at, "day": [day] * 2})


def read_parts(columns: str = "*", schema: str = "mine") -> list[tuple[Any, ...]]:
    rows = read_rows(f"SELECT {columns} FROM {schema}.parts ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def read_error(result: dg.ExecuteInProcessResult) -> str:
    failures = [event for event in result.all_events if event.is_step_failure]
    return str(failures[0].event_specific_data.error)


def read_metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    event = next(
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.path[-1] == name
    )
    return {key: entry.value for key, entry in event.materialization.metadata.items()}


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_of_every_library_go_through_the_io_manager(
    library: str, execute: Callable[..., dg.ExecuteInProcessResult]
) -> None:
    module = importlib.import_module(library)
    kind = module.Table if library == "pyarrow" else module.DataFrame

    @dg.asset(
        key_prefix="mine",
        ins={"it": dg.AssetIn(["incident_api", "users"], metadata={"columns": ["id", "name"]})},
    )
    def people(it: kind) -> kind:  # type: ignore[valid-type]
        assert isinstance(it, kind)
        return it

    result = execute(assets=[people])
    assert result.success
    rows = read_rows("SELECT * FROM mine.people")
    assert len(rows) == read_metadata(result, "users")["dagster/row_count"]
    assert set(rows[0]) == {"id", "name"}


def test_polars_is_imported_only_for_its_own_frames() -> None:
    # pandas as well, but pyarrow itself imports it wherever it is installed.
    script = (
        "import sys, dagster as dg, pyarrow as pa\n"
        "from incident_assets.defs.duckdb import DuckDBResource\n"
        "from incident_assets.defs.io_manager import DuckDBIOManager\n"
        "first = dg.asset(lambda: pa.table({'x': [1]}), name='first')\n"
        "last = dg.asset(lambda first: first, name='last')\n"
        "manager = DuckDBIOManager(warehouse=DuckDBResource())\n"
        "dg.materialize([first, last], resources={'io_manager': manager})\n"
        "assert 'polars' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_table_is_replaced_with_its_columns_and_described(materialize: Materialize) -> None:
    frames = [
        pa.table({"old": ["x", "y"]}),
        pa.table({"new": [1, 2, 3], "text": ["a", "b", None]}),
    ]

    @dg.asset(key_prefix=["deep", "mine"])
    def parts() -> pa.Table:
        return frames.pop(0)

    materialize(parts)
    result = materialize(parts)
    assert read_parts() == [(1, "a"), (2, "b"), (3, None)]
    metadata = read_metadata(result, "parts")
    assert metadata["dagster/row_count"] == 3
    assert metadata["dagster/table_name"] == "mine.parts"
    columns = [(c.name, c.type) for c in metadata["dagster/column_schema"].columns]
    assert columns == [("new", "BIGINT"), ("text", "VARCHAR")]


def test_a_schema_that_is_called_like_the_database_is_refused_in_words(
    materialize: Materialize,
) -> None:
    @dg.asset(key_prefix="Incidents")
    def mine() -> pa.Table:
        return pa.table({"i": [1]})

    with pytest.raises(ValueError, match=r"Incidents is called like the database.*DUCKDB_PATH"):
        materialize(mine)


def test_without_a_prefix_the_schema_is_main_and_none_leaves_the_table(
    materialize: Materialize,
) -> None:
    frames = [pa.table({"x": [1]}), None]

    @dg.asset
    def parts() -> Any:
        return frames.pop(0)

    result = materialize(parts)
    assert read_metadata(result, "parts")["dagster/table_name"] == "main.parts"
    materialize(parts)
    assert not frames
    assert read_parts(schema="main") == [(1,)]


def test_odd_names_and_annotations_are_no_obstacle(materialize: Materialize) -> None:
    seen: list[Any] = []
    key = dg.AssetKey(["order", "select"])

    @dg.asset(key=key, metadata={"partition_expr": '"a ""b"""'}, partitions_def=AREAS)
    def made(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({'a "b"': [context.partition_key], "from": [1], "c": [2]})

    both = dg.AssetIn(key, metadata={"columns": ['a "b"', "from"]})

    @dg.asset(key="group", ins={"made": both})
    def used(made: pa.Table | None) -> pa.Table:
        seen.append(made)
        return pa.table({"x y": [1]})

    materialize(made, partition_key="o'hare")
    materialize(made, partition_key="o'hare")
    materialize(made, used, selection=[used])
    assert seen[0].to_pylist() == [{'a "b"': "o'hare", "from": 1}]
    assert read_rows('SELECT * FROM main."group"') == [{"x y": 1}]


def test_what_is_no_frame_is_refused_in_words(materialize: Materialize) -> None:
    @dg.asset
    def parts() -> Any:
        return {"x": 1}

    text = read_error(materialize(parts, raise_on_error=False))
    assert "stores pyarrow Tables and Polars or pandas DataFrames" in text


def test_a_partition_is_replaced_and_the_others_stay(materialize: Materialize) -> None:
    amounts = iter(range(1, 9))
    parts = make_asset(lambda area: give_area(area, next(amounts)), "area", AREAS)
    for area in ("eu", "us", "o'hare", "eu"):
        result = materialize(parts, partition_key=area)
    assert read_parts() == [("eu", 4), ("o'hare", 3), ("us", 2)]
    metadata = read_metadata(result, "parts")
    assert metadata["dagster/partition_row_count"] == 1
    assert "dagster/row_count" not in metadata
    assert metadata["dagster/table_name"] == "mine.parts"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_day_of_any_zone_is_replaced_alone(zone: str, materialize: Materialize) -> None:
    days = dg.DailyPartitionsDefinition("2024-01-01", timezone=zone)
    parts = make_asset(lambda day: give_day(day, zone), "began_at", days)
    for day in ("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-02"):
        materialize(parts, partition_key=day)
    counts = read_rows("SELECT day, count(*) AS n FROM mine.parts GROUP BY day ORDER BY day")
    assert [(row["day"], row["n"]) for row in counts] == [
        ("2024-01-01", 2),
        ("2024-01-02", 2),
        ("2024-01-03", 2),
    ]


def test_a_run_over_a_range_replaces_all_its_partitions(materialize: Materialize) -> None:
    @dg.asset(
        key_prefix="mine",
        metadata={"partition_expr": "began_at"},
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def parts(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.concat_tables([give_day(day) for day in context.partition_keys])

    for start, end in (("2024-01-01", "2024-01-03"), ("2024-01-02", "2024-01-04")):
        tags = {
            "dagster/asset_partition_range_start": start,
            "dagster/asset_partition_range_end": end,
        }
        materialize(parts, tags=tags)
    assert read_parts("DISTINCT day") == [(f"2024-01-0{day}",) for day in range(1, 5)]
    assert len(read_parts()) == 8


def test_a_partition_of_two_dimensions_is_replaced_and_loaded_alone(
    materialize: Materialize,
) -> None:
    def give(key: Any) -> pa.Table:
        found = give_day(key.keys_by_dimension["day"])
        return found.append_column("area", pa.array([key.keys_by_dimension["area"]] * 2))

    seen: dict[str, Any] = {}
    parts = make_asset(give, BY_BOTH, BOTH)

    @dg.asset(partitions_def=DAYS, ins={"parts": dg.AssetIn(["mine", "parts"])})
    def of_day(context: dg.AssetExecutionContext, parts: pa.Table) -> None:
        seen[context.partition_key] = parts

    days, areas = ("2024-01-01", "2024-01-02"), ("eu", "us")
    keys = [dg.MultiPartitionKey({"day": day, "area": area}) for day in days for area in areas]
    for key in [*keys, keys[0]]:
        materialize(parts, partition_key=key)
    stored = read_parts("day, area")
    assert stored == [(day, area) for day in days for area in areas for _ in range(2)]
    materialize(parts, of_day, selection=[of_day], partition_key=days[1])
    rows = seen[days[1]].to_pylist()
    assert sorted((row["day"], row["area"]) for row in rows) == stored[4:]


def test_an_input_is_the_mapped_partitions_alone(materialize: Materialize) -> None:
    seen: dict[str, list[str]] = {}
    parts = make_asset(give_day, "began_at", DAYS)
    before = dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )

    def ask(name: str, mapping: Any, partitions: Any) -> Any:
        source = dg.AssetIn(["mine", "parts"], partition_mapping=mapping)

        @dg.asset(name=name, ins={"parts": source}, partitions_def=partitions)
        def asset(context: dg.AssetExecutionContext, parts: pa.Table) -> None:
            key = context.partition_key if context.has_partition_key else "all"
            seen[f"{name} {key}"] = sorted(set(parts["day"].to_pylist()))

        return asset

    same, earlier = ask("same", None, DAYS), ask("earlier", before, DAYS)
    whole = ask("whole", None, None)
    for day in ("2024-01-01", "2024-01-02", "2024-01-03"):
        materialize(parts, partition_key=day)
    for day in ("2024-01-01", "2024-01-03"):
        chosen = [same, earlier]
        materialize(parts, *chosen, selection=chosen, partition_key=day)
    materialize(parts, whole, selection=[whole])
    assert seen == {
        "same 2024-01-01": ["2024-01-01"],
        "earlier 2024-01-01": [],
        "same 2024-01-03": ["2024-01-03"],
        "earlier 2024-01-03": ["2024-01-02"],
        "whole all": ["2024-01-01", "2024-01-02", "2024-01-03"],
    }


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (pa.table({"area": ["eu"], "amount": ["many"], "new": [1]}), "many"),
        (pa.table({"area": ["eu", "us", None], "amount": [5, 6, 7], "new": [1, 2, 3]}), "2 rows"),
    ],
    ids=["it cannot be stored", "rows of elsewhere"],
)
def test_a_partition_that_fails_leaves_the_old_rows_and_columns(
    bad: pa.Table, text: str, materialize: Materialize
) -> None:
    frames = iter([give_area("eu"), give_area("us"), bad])
    parts = make_asset(lambda area: next(frames), "area", AREAS)
    materialize(parts, partition_key="eu")
    materialize(parts, partition_key="us")
    result = materialize(parts, partition_key="eu", raise_on_error=False)
    assert text in read_error(result)
    assert read_rows("FROM mine.parts ORDER BY area") == [
        {"area": "eu", "amount": 1},
        {"area": "us", "amount": 1},
    ]


def test_a_later_partition_adds_a_column_once_it_has_a_type(materialize: Materialize) -> None:
    frames = iter(
        [
            pa.table({"area": ["eu"], "note": pa.nulls(1)}),
            pa.table({"note": ["a"], "area": ["us"]}),
            pa.table({"area": ["o'hare"], "other": pa.nulls(1), "when": [datetime(2024, 1, 1)]}),
        ]
    )
    parts = make_asset(lambda area: next(frames), "area", AREAS)
    for area in ("eu", "us", "o'hare"):
        materialize(parts, partition_key=area)
    assert read_rows("FROM mine.parts ORDER BY area") == [
        {"area": "eu", "note": None, "when": None},
        {"area": "o'hare", "note": None, "when": datetime(2024, 1, 1)},
        {"area": "us", "note": "a", "when": None},
    ]


@pytest.mark.parametrize(
    ("expression", "partitions", "key"),
    [
        (None, AREAS, "eu"),
        (None, BOTH, dg.MultiPartitionKey({"day": "2024-01-01", "area": "eu"})),
        ("began_at", BOTH, dg.MultiPartitionKey({"day": "2024-01-01", "area": "eu"})),
        ({"day": "began_at"}, BOTH, dg.MultiPartitionKey({"day": "2024-01-01", "area": "eu"})),
    ],
    ids=["none", "none for two", "one for two", "a dimension without"],
)
def test_a_missing_expression_is_one_clear_error(
    expression: Any, partitions: Any, key: str, materialize: Materialize
) -> None:
    parts = make_asset(lambda key: give_area("eu"), expression, partitions)
    text = read_error(materialize(parts, partition_key=key, raise_on_error=False))
    assert "ValueError" in text and "partition_expr" in text and "parts" in text

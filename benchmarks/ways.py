"""What is measured: the ways, their situations, and which combinations are left out and why.

How a run is measured is in `measuring`, what the numbers have to reach in `report`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIZES = (500, 5_000, 50_000, 200_000)  # incidents
LATENCIES = (0, 20, 200)  # milliseconds
ROUNDS = {500: 5, 5_000: 3, 50_000: 3, 200_000: 1}
HISTORY_RUNS = 20

SITUATIONS = {
    "first": "first sync, into nothing",
    "unchanged": "again, nothing changed",
    "changed": "again, 1 % of the incidents changed",
    "after": "on the database of the first sync",
    "alone": "by itself",
}
SYNCS = ("first", "unchanged", "changed")
AGAIN = ("unchanged", "changed")


@dataclass(frozen=True)
class Way:
    """One way of doing the work: a name for options, words for the report, what Python is given.

    A way that `continues` another starts from a copy of that one's database. `complete` ways load
    every row, and it is an error if they do not.
    """

    name: str
    words: str
    arguments: tuple[str, ...]
    situations: tuple[str, ...] = SYNCS
    continues: str | None = None
    complete: bool = True


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", f"benchmarks.{name}", *arguments)


def _job(name: str, module: str = "benchmarks.job") -> tuple[str, ...]:
    return ("-m", "dagster", "job", "execute", "-m", module, "-j", name)


WAYS = (
    Way("floor", "floor: asyncio, NDJSON, read_json; no framework", _module("floor")),
    Way("library", "ours, as a library", _module("library", "full")),
    Way("source", "ours, `incident-assets sync`", ("-m", "incident_assets", "sync")),
    Way("job", "ours, `dagster job execute`, no checks", _job("thirteen")),
    Way(
        "job_checked",
        "ours, `dagster job execute`, checks and published copy",
        _job("thirteen_checked"),
    ),
    Way("dlt", "bare dlt, as the seed has it", _module("bare_dlt"), complete=False),
    Way("dlt_parquet", "dlt, parquet", _module("bare_dlt", "parquet"), complete=False),
    Way(
        "dlt_flat",
        "dlt, parquet, max_table_nesting=0",
        _module("bare_dlt", "parquet", "flat"),
        complete=False,
    ),
    Way(
        "changes",
        "ours, as a library, live resources by changes",
        _module("library", "changes"),
        AGAIN,
        "library",
    ),
    Way(
        "changes_two",
        "ours, as a library, incidents and updates by changes",
        _module("library", "changes_two"),
        AGAIN,
        "library",
    ),
    Way(
        "live",
        "ours, `dagster job execute`, sync_live with models, checks and published copy",
        _job("sync_live", "incident_assets.definitions"),
        ("after", *AGAIN),
        "library",
    ),
    Way(
        "empty",
        "`dagster job execute`, as many empty assets and checks as sync_live has",
        _job("empty", "benchmarks.empty"),
        ("alone",),
    ),
    Way(
        "history",
        "Dagster's history of 20 runs of sync_live",
        _module("library", "history"),
        ("alone",),
    ),
    Way("checks", "all checks", _module("library", "checks"), ("after",), "library"),
    Way("models", "all models", _module("library", "models"), ("after",), "library"),
    Way("imports", '`python -c "import dagster, dlt"`', ("-c", "import dagster, dlt"), ("alone",)),
    Way("growth", "200 full syncs, 1 % changed each", _module("library", "growth"), ("alone",)),
    Way(
        "growth_changes",
        "200 syncs by changes, 1 % changed each",
        _module("library", "growth_changes"),
        ("alone",),
    ),
)
# Minutes each: in the first round only, and not with --quick.
ONCE = ("growth", "growth_changes", "history")


def find_reason(way: Way, situation: str, size: int, latency: float) -> str | None:
    """Return why this is not measured, or None if it is."""
    bare, whole = way.name.startswith("dlt"), way.name in ("source", "job", "job_checked", "live")
    if size >= 200_000 and (way.name != "source" or latency):
        return "how time and memory grow shows in the whole process without latency"
    if way.name == "dlt" and size >= 50_000:
        return "bare dlt needs more than 20 GB of memory at 50,000 incidents"
    if situation in ("after", "alone") and latency:
        return "asks the API for nothing, so latency is no matter"
    if way.name in ONCE and size != 500:
        return "how the file grows is measured at 500 incidents"
    if latency >= 200 and size >= 50_000 and way.name not in ("floor", "library"):
        return "minutes of waiting in every run; the floor and the library show how much"
    if bare and ((latency and size >= 50_000) or (latency >= 200 and size >= 5_000)):
        return "dlt walks page after page of 25, so a run waits for minutes"
    if bare and situation in AGAIN and (latency or size >= 50_000):
        return "dlt lists everything again, as in its first sync"
    if whole and situation in AGAIN and latency:
        return "start and exit do not depend on latency; the library shows the rest"
    return None


def list_runs(
    ways: Sequence[Way], situations: Sequence[str], size: int, latency: float, number: int
) -> Iterator[tuple[str, Way]]:
    """Yield the situation and way of each run of one round, in the order they are run."""
    if number > 1:
        ways = [way for way in ways if way.name not in ONCE]
    for situation in ("alone", "first", "after", *AGAIN):
        for way in ways:
            wanted = situation in situations and situation in way.situations
            if wanted and find_reason(way, situation, size, latency) is None:
                yield situation, way

"""Four tools through the same faults, and docs/scoreboard.md: `python -m benchmarks.scoreboard`.

Each tool has synced once when upstream changes, a fault begins and it syncs again; what a reader of
its result then sees is compared with upstream. How Airbyte's CDK and the Singer SDK are set up is
in `airbyte` and `singer`; they live in an environment of their own.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.singer import FOLDER
from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.demo import faults
from incident_assets.demo.account import generate_account
from incident_assets.demo.faults import Fault
from incident_assets.demo.server import DemoApi

ROOT = Path(__file__).resolve().parents[1]
OTHERS, LOCK = ROOT / ".venv-scoreboard", ROOT / "locks/scoreboard.txt"
PLACES = Path("data/scoreboard")
INCIDENTS, LIMIT, AT_ONCE, KEY = 600, 180.0, 2, "scoreboard-key"
DATABASE = "incidents.duckdb"

PAGE = """\
# Scoreboard

Written by `make scoreboard`; do not edit. Each tool syncs the bundled API's account of {incidents}
incidents once, without a fault. Then a tenth of the incidents is renamed, five are declared with an
update each, and two are deleted. A fault begins, on incidents unless it names another resource, and
each tool syncs once more. What a reader of its result sees then is compared with upstream: ids,
texts, whole numbers and flags of every row. A tool that has not ended after {limit:.0f} s is
stopped. Many runs go side by side, so seconds are rough.

*Right*: exit code 0 and every row as without a fault. *Said so*: another exit code. *Behind*: rows
are older than upstream, as after no sync, or lost. What is wrong without any fault stands in the
rows of `none`, and is not counted again in others.

{tables}
## What was configured

Versions: {versions}.

- **ours**: `incident-assets sync` with address, key and database, no other setting. It keeps a
  value that does not fit its column in `_rescued`. What the checks of the Dagster jobs say
  (`contract`, `volume`) is not counted.
- **bare dlt**: the configuration that the project began with ([seed.md](seed.md)), dlt's defaults.
  It asks for the default modes and categories, 25 rows a page, and merges, so what was deleted
  stays. A value that does not fit its column goes to a column of its own, such as `rank__v_text`.
- **Airbyte's CDK**: a low-code manifest (`benchmarks/airbyte.py`) that the CDK's own command reads,
  with a cursor and its stop condition. Retries are the default (five, for 429 and 5xx), with
  `WaitTimeFromHeader` for Retry-After. The CDK ends where records come out; files stand for a
  destination in the mode Full Refresh, Overwrite + Deduped: a stream replaces its file when the CDK
  reports it as complete. The platform, which starts a failed sync again, is not part of this.
- **Singer SDK**: a tap of `RESTStream`s and a target with a `BatchSink` (`benchmarks/singer.py`),
  piped as in a shell with `pipefail`. Five tries, timeouts, paginator and validation are the SDK's
  defaults. The target updates rows by key, so what was deleted stays.

## What each does better than ours

- **bare dlt** tries five times, so that four 500s pass; ours gives up after four requests and keeps
  what it had. A value that does not fit gets a column that SQL can read as it is; ours is JSON.
- **Airbyte's CDK** tries six times, and has as much patience as that takes. It hands a value of
  another type on as it came. Its manifest needs no code, and many APIs have one already.
- **Singer SDK** tries five times. Its exit code tells of a value of another type, though rows after
  it are not loaded then; of that, `incident-assets sync` alone says nothing. It notices a repeated
  cursor, too. Any target takes what the tap says.

What is stopped here need not hang for ever: the Singer SDK gives a silent request up after 300 s.
The CDK waits without end unless its manifest sets a timeout, and a cursor that repeats has no end.
"""

Wrong = set[tuple[str, str, str]]  # resource, id, what is wrong


@dataclass(frozen=True)
class Tool:
    """A tool, what Python is given to sync with it, and the tables a reader sees; None: files."""

    name: str
    arguments: tuple[str, ...]
    table: str | None = None


OTHER_PYTHON = str(OTHERS / "bin/python")
TOOLS = (
    Tool("ours", ("incident_assets", "sync"), "incident_api.{} WHERE _deleted_at IS NULL"),
    Tool("bare dlt", ("benchmarks.bare_dlt",), "incident_api.{}"),
    Tool("Airbyte CDK", ("benchmarks.airbyte", OTHER_PYTHON)),
    Tool("Singer SDK", ("benchmarks.singer", OTHER_PYTHON)),
)


@dataclass(frozen=True)
class Result:
    """One run: exit code (None: stopped at the limit), and rows wrong beyond those without fault.

    `wrong` counts them by resource and by what is wrong.
    """

    tool: str
    fault: str
    code: int | None
    seconds: float
    requests: int
    wrong: Mapping[str, int]

    @property
    def verdict(self) -> str:
        """What a person who looks at the exit code and at the rows makes of it."""
        if self.code is None:
            return "**hung**"
        if self.wrong:
            return "**wrong, silent**" if self.code == 0 else "behind, said so"
        return "right" if self.code == 0 else "right, said so"


def _hit(effect: faults.Effect, resource: str = "incidents", **which: Any) -> Callable[..., None]:
    return lambda api: api.inject(Fault(effect, resource, **which))


def _drift(resource: str, api: DemoApi, **fields: Any) -> None:
    api.change(resource, api.rows(resource)[0]["id"], **fields)


def _repeat(api: DemoApi) -> None:
    cursor = api.rows("incidents")[-len(api.rows("incidents")) // 2]["id"]
    repeat = faults.edit(lambda body: body["pagination_meta"].update(after=cursor))
    api.inject(Fault(repeat, "incidents"))


def _empty(body: faults.Body) -> faults.Body:
    kept = {k: {"page_size": 250} for k in body if k == "pagination_meta"}
    return {"incidents": [], **kept}


FAULTS: Mapping[str, Callable[[DemoApi], None]] = {
    "none": lambda api: None,
    "403 on custom_fields": lambda api: api.forbid("custom_fields"),
    "429 twice, Retry-After: 3": _hit(faults.rate_limited(3), first=2),
    "429 twice, no Retry-After": _hit(faults.status(429), first=2),
    "500 three times": _hit(faults.status(500), first=3),
    "500 four times": _hit(faults.status(500), first=4),
    "a connection reset": _hit(faults.reset(), nth=2),
    "half a body": _hit(faults.cut_short(), nth=2),
    "a page without pagination_meta": _hit(faults.without_meta(), nth=2),
    "the same cursor on every page": _repeat,
    "a request that is not answered": _hit(faults.hang(600), nth=2),
    "an id twice on each page": _hit(faults.duplicate_rows()),
    "a number becomes text": partial(_drift, "severities", rank="high"),
    "an unknown value of an enum": partial(_drift, "incidents", visibility="restricted"),
    "an emptied list": _hit(faults.edit(_empty)),
}


def change_upstream(api: DemoApi) -> None:
    """Rename a tenth of the incidents, declare five with an update each, delete two."""
    identifiers = [row["id"] for row in api.rows("incidents")]
    for identifier in identifiers[::10]:
        api.change("incidents", identifier, name="Renamed")
    for _ in range(5):
        api.add("incident_updates", incident_id=api.add("incidents")["id"])
    for identifier in identifiers[1:3]:
        api.remove("incidents", identifier)


def run_tool(tool: Tool, place: Path, api: DemoApi, limit: float) -> tuple[int | None, float]:
    """Sync once in a folder; return exit code, None if it was stopped at the limit, and seconds."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "HOME": str(place.absolute()),
        "DLT_DATA_DIR": str(place.absolute() / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "NO_PROXY": "127.0.0.1,localhost",
        "INCIDENT_API_BASE_URL": api.url,
        "INCIDENT_API_KEY": KEY,
        "INCIDENT_DUCKDB_PATH": str(place.absolute() / DATABASE),  # dlt remembers a relative one
    }
    api.reset_log()
    begun = time.monotonic()
    with (place / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *tool.arguments],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # the processes that it starts are ended with it
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return code, time.monotonic() - begun


def find_wrong(tool: Tool, place: Path, api: DemoApi) -> Wrong:
    """Compare what a reader sees with upstream, in ids, texts, whole numbers and flags."""
    wrong: Wrong = set()
    for endpoint in ENDPOINTS:
        name = endpoint.name
        found = _read_rows(tool, place, endpoint)
        upstream = api.account.rows[name]
        times = Counter(row["id"] for row in found)
        wrong |= {(name, i, "twice") for i, count in times.items() if count > 1}
        wrong |= {(name, i, "missing") for i in upstream.keys() - times.keys()}
        wrong |= {(name, i, "deleted upstream") for i in times.keys() - upstream.keys()}
        kinds, lacks = ("text", "bigint", "bool"), endpoint.newest.lacks
        fields = [c.name for c in endpoint.columns if c.type in kinds and c.name not in lacks]
        for row in found:
            truth = upstream.get(row["id"], row)
            if any(row.get(field) != truth.get(field) for field in fields):
                wrong.add((name, row["id"], "other values"))
    return wrong


def _read_rows(tool: Tool, place: Path, endpoint: Endpoint) -> list[dict[str, Any]]:
    if tool.table is None:
        path = place / FOLDER / f"{endpoint.name}.json"
        return json.loads(path.read_text()) if path.exists() else []
    with duckdb.connect(str(place / DATABASE), read_only=True) as connection:
        cursor = connection.execute(f"SELECT * FROM {tool.table.format(endpoint.name)}")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def run_faults(
    tool: Tool, chosen: Iterable[str], incidents: int = INCIDENTS, limit: float = LIMIT
) -> list[Result]:
    """Take a tool through these faults, `none` among them."""
    place = PLACES / tool.name.replace(" ", "-")
    shutil.rmtree(place, ignore_errors=True)
    first = place / "first"
    first.mkdir(parents=True)
    with DemoApi(generate_account(incidents), key=KEY) as api:
        if run_tool(tool, first, api, limit)[0] != 0:
            raise RuntimeError(f"{tool.name} failed without a fault: see {first}/log")
    names = list(dict.fromkeys(["none", *chosen]))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        run = partial(_run_fault, tool, first, incidents=incidents, limit=limit)
        runs = dict(zip(names, pool.map(run, names), strict=True))
    usual = runs["none"][1]
    results = []
    for fault, (result, wrong) in runs.items():
        new = wrong - usual if fault != "none" else wrong
        counts = Counter(f"{name}: {what}" for name, _, what in new)
        results.append(replace(result, wrong=counts))
    return results


def _run_fault(
    tool: Tool, first: Path, fault: str, incidents: int, limit: float
) -> tuple[Result, Wrong]:
    place = first.with_name(re.sub(r"\W+", "-", fault))
    shutil.copytree(first, place)
    with DemoApi(generate_account(incidents), key=KEY) as api:
        change_upstream(api)
        FAULTS[fault](api)
        code, seconds = run_tool(tool, place, api, limit)
        print(f"{tool.name}, {fault}: {code} after {seconds:.0f} s", file=sys.stderr)
        wrong = find_wrong(tool, place, api)
    return Result(tool.name, fault, code, seconds, len(api.requests), {}), wrong


def render(results: Sequence[Result], limit: float = LIMIT) -> str:
    """Return the page's tables."""
    tools = list(dict.fromkeys(result.tool for result in results))
    by = {(result.fault, result.tool): result for result in results}
    lines = [f"| fault | {' | '.join(tools)} |", "| --- " * (len(tools) + 1) + "|"]
    for fault in dict.fromkeys(result.fault for result in results):
        cells = [by[fault, tool].verdict if (fault, tool) in by else "" for tool in tools]
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    lines += [
        "",
        "| fault | tool | rows wrong | exit code | seconds | requests |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in sorted(results, key=lambda r: list(FAULTS).index(r.fault)):
        counts = "; ".join(f"{n} {what}" for what, n in sorted(r.wrong.items())) or "0"
        code = f"stopped at {limit:.0f} s" if r.code is None else str(r.code)
        cells = [r.fault, r.tool, counts, code, f"{r.seconds:.0f}", f"{r.requests:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def prepare_environment() -> None:
    """Make the environment of the other tools, exactly what their lock file says, once per lock."""
    ready = OTHERS / ".ready"
    if ready.exists() and ready.stat().st_mtime >= LOCK.stat().st_mtime:
        return
    pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([sys.executable, "-m", "venv", "--clear", OTHERS], check=True)
    subprocess.run([OTHER_PYTHON, *pip, "--require-hashes", "-r", LOCK], check=True)
    ready.touch()


def read_versions() -> str:
    """Return the versions of all tools, those of the others from their lock file."""
    locked = re.findall(r"^(airbyte-cdk|singer-sdk)==(\S+)", LOCK.read_text(), re.MULTILINE)
    ours = [(name, version(name)) for name in ("dlt", "duckdb")]
    return ", ".join(" ".join(pair) for pair in [*ours, *locked])


def main() -> None:
    """Run every tool through every fault, the tools side by side, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", nargs="+", default=[t.name for t in TOOLS], metavar="NAME")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=FAULTS, metavar="NAME")
    parser.add_argument("--write", action="store_true", help="write docs/scoreboard.md")
    options = parser.parse_args()
    prepare_environment()
    chosen = [tool for tool in TOOLS if tool.name in options.tools]
    with ThreadPoolExecutor(len(chosen)) as pool:
        runs = pool.map(lambda tool: run_faults(tool, options.faults), chosen)
        results = [result for run in runs for result in run]
    tables = render(results)
    print(tables)
    if options.write:
        page = PAGE.format(
            tables=tables, versions=read_versions(), incidents=INCIDENTS, limit=LIMIT
        )
        (ROOT / "docs/scoreboard.md").write_text(page)


if __name__ == "__main__":
    main()

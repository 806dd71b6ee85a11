"""`incident-assets demo`: load everything once from the bundled API, and say what can be asked.

It goes through Dagster, in a process of its own. Where it works is in `place`.
"""

import re
import sys
import time
from pathlib import Path

import duckdb

from incident_assets.demo.place import (
    DATABASE,
    build_environment,
    describe_account,
    prepare_folder,
    run_dagster,
    serve_account,
)
from incident_assets.demo.server import DemoApi
from incident_assets.models.catalog import read_models
from incident_assets.settings import Settings
from incident_assets.sync.terminal import format_table

# By its tag the UI knows the run for one of this project's, and shows it under Jobs.
TAGS = '{".dagster/repository": "__repository__@incident_assets"}'
JOB = ["job", "execute", "-m", "incident_assets.definitions", "--tags", TAGS, "-j"]

MARTS = "incident_analytics.mart_"
QUESTIONS = {
    "Is it getting better? Four weeks up to each, medians in minutes": (
        "SELECT week, incidents, round(mtta_median / 60)::INT AS acknowledged, "
        "round(mttr_median / 60)::INT AS resolved "
        f"FROM {MARTS}incident_trend ORDER BY week DESC LIMIT 4"
    ),
    "Who carries the load? The last four weeks, in hours": (
        "SELECT user_name AS responder, sum(lead_assignments)::INT AS led, "
        "round(sum(minutes_total) / 60)::INT AS hours, "
        "round(sum(minutes_sleeping) / 60)::INT AS asleep "
        f"FROM {MARTS}responder_load WHERE week > (SELECT max(week) - 28 FROM "
        f"{MARTS}responder_load) GROUP BY ALL ORDER BY hours DESC, responder LIMIT 4"
    ),
    "What is promised and not done? Follow-ups, by priority": (
        "SELECT priority, sum(open)::INT AS open, "
        "coalesce(sum(open) FILTER (age_bucket_order > 3), 0)::INT AS older_than_90_days "
        f"FROM {MARTS}follow_up_ageing GROUP BY ALL ORDER BY min(priority_rank) NULLS LAST"
    ),
}
LAST_WEEK = f"SELECT strftime(max(week), '%G-W%V') FROM {MARTS}incident_trend"
FINISHED = re.compile(r"^.* - (\w+) - STEP_SUCCESS - ", re.MULTILINE)
PHASES = "Starting Dagster", "Reading and loading", "Checking and modelling", "Report and copy"


def load() -> int:
    """Run the demo and return its exit code; 130 after Ctrl-C."""
    folder = prepare_folder(log_level="DEBUG")  # at which Dagster tells each step
    output_file = folder / "sync.log"
    try:
        with serve_account(folder) as (api, life), output_file.open("wb") as output:
            print(f"{api.url} serves {describe_account(life)}")
            environment = build_environment(folder, api)
            options = {"stdout": output, "stderr": output}
            with run_dagster([*JOB, "sync_all"], folder, environment, **options) as process:
                progress = _Progress(api, output_file)
                while process.poll() is None:
                    progress.show()
                    time.sleep(0.2)
            progress.show(ended=True)
    except KeyboardInterrupt:
        print("\nStopped; `make demo` starts over.")
        return 130
    if process.returncode:
        print(output_file.read_text(errors="replace")[-4000:])
        whole = _show(output_file)
        print(f"\nThe sync failed (exit code {process.returncode}); its whole log is {whole}")
        return 1
    _print_results(Settings(duckdb_path=str(folder / DATABASE)))
    return 0


class _Progress:
    """The phases of the run: a line for each when it is over; on a terminal also how far it is."""

    def __init__(self, api: DemoApi, log: Path):
        self._api, self._log = api, log
        self._begun = time.monotonic()
        self._phase = 0

    def show(self, ended: bool = False) -> None:
        steps = FINISHED.findall(self._log.read_text(errors="replace"))
        begun = {request.resource for request in self._api.requests} - {None}
        checked = sum(step.startswith("check_") for step in steps)
        models = read_models().keys()
        built = len(models & {*steps})
        said = {
            1: f"{len(begun)} resources, {len(self._api.requests)} requests",
            2: f"{checked} tables, {built} models",
        }
        over = (bool(begun), "sync" in steps, built == len(models), False)
        while self._phase < len(PHASES):
            is_over = over[self._phase] or ended
            line = f"  {self._phase + 1}/{len(PHASES)}  {PHASES[self._phase]:<24}"
            line += f"{said.get(self._phase, ''):<28}{time.monotonic() - self._begun:>3.0f} s"
            if sys.stdout.isatty():
                print(f"\r{line}", end="\n" if is_over else "", flush=True)
            elif is_over:
                print(line, flush=True)
            if not is_over:
                return
            self._phase, self._begun = self._phase + 1, time.monotonic()


def _print_results(settings: Settings) -> None:
    copy = _show(settings.published_copy)
    with duckdb.connect(copy, read_only=True) as connection:
        tables, rows = connection.execute(
            "SELECT count(*), sum(table_rows)::INT FROM incident_sync.log "
            "WHERE run_id = (SELECT max_by(run_id, finished_at) FROM incident_sync.log)"
        ).fetchall()[0]
        print(f"\n{rows:,} rows are in {tables} tables. Three answers from them:")
        last = connection.execute(LAST_WEEK).fetchall()[0][0]
        for question, sql in QUESTIONS.items():
            found = connection.execute(sql)
            header = [column[0] for column in found.description or ()]
            print(f"\n{question}\n\n{format_table(header, found.fetchall())}")
    print(f"\nThe report: {_show(settings.report_page)}, opens in any browser")
    print(f"The database: {copy}, a copy that is safe to keep open")
    if sys.stdout.isatty():
        python = f"import duckdb; sql = duckdb.connect('{copy}', read_only=True).sql"
        command = _show(Path(sys.executable).with_name("incident-assets"))
        print("\nLook further:\n")
        print(f'  {_show(Path(sys.executable))} -i -c "{python}"')
        print(f'  >>> sql("FROM {MARTS}incident_weekly")')
        figure = f"mart_incident_trend mttr_median --week {last}"
        print(f"  {command} explain {figure}  # the rows behind it")
        print("  docs/tables.md  # the tables, and ten questions in SQL")
        print("  make demo-ui  # the Dagster UI on it, where time goes on and things break")
    print("\nYour own account: copy .env.example to .env, fill in two settings, then `make check`")
    print("and `make ui`.")


def _show(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

"""`incident-assets demo`: load everything once from the bundled API, and say what landed.

It goes through Dagster, in a process of its own. Where it works is in `place`.
"""

import sys
import time
from pathlib import Path

import duckdb

from incident_assets.api.endpoints import ENDPOINTS
from incident_assets.demo.place import (
    DATABASE,
    build_environment,
    prepare_folder,
    run_dagster,
    serve_account,
)
from incident_assets.demo.server import DemoApi
from incident_assets.settings import Settings
from incident_assets.sync.terminal import format_table

INCIDENTS = 1000
# By its tag the UI knows the run for one of this project's, and shows it under Jobs.
TAGS = '{".dagster/repository": "__repository__@incident_assets"}'
JOB = ["job", "execute", "-m", "incident_assets.definitions", "-j", "sync_all", "--tags", TAGS]

QUERIES = {
    "Incidents by severity, worst first": (
        "SELECT severity->>'name' AS severity, count(*) AS incidents FROM incident_api.incidents "
        "GROUP BY ALL ORDER BY max((severity->>'rank')::INT) DESC NULLS LAST"
    ),
    "What is going on right now": (
        "SELECT reference, name, incident_status->>'name' AS status FROM incident_api.incidents "
        "WHERE (incident_status->>'category') IN ('triage', 'live') AND mode = 'standard' "
        "ORDER BY created_at DESC LIMIT 10"
    ),
    "Hours from Reported to Resolved, by month (into a JSON column)": (
        "WITH moments AS (SELECT id, created_at, unnest(incident_timestamp_values::JSON[]) AS m "
        "FROM incident_api.incidents), pivoted AS (SELECT id, min(created_at) AS created_at, "
        "max((m->'value'->>'value')::TIMESTAMPTZ) FILTER "
        "((m->'incident_timestamp'->>'name') = 'Reported') AS reported, "
        "max((m->'value'->>'value')::TIMESTAMPTZ) FILTER "
        "((m->'incident_timestamp'->>'name') = 'Resolved') AS resolved FROM moments GROUP BY id) "
        "SELECT strftime(created_at, '%Y-%m') AS month, count(resolved) AS resolved, "
        "round(median(epoch(resolved - reported)) / 3600, 1) AS median_hours FROM pivoted "
        "GROUP BY 1 ORDER BY 1"
    ),
    "Oldest follow-ups nobody has done": (
        "SELECT title, assignee->>'name' AS assignee, (now()::DATE - created_at::DATE) AS days "
        "FROM incident_api.follow_ups WHERE status = 'outstanding' ORDER BY days DESC LIMIT 10"
    ),
    "Who posts the most updates": (
        "SELECT updater->'user'->>'name' AS responder, count(*) AS updates "
        "FROM incident_api.incident_updates WHERE (updater->'user') IS NOT NULL "
        "GROUP BY ALL ORDER BY updates DESC LIMIT 10"
    ),
}


def load() -> int:
    """Run the demo and return its exit code; 130 after Ctrl-C."""
    folder = prepare_folder()
    output_file = folder / "sync.log"
    try:
        with serve_account(INCIDENTS) as api, output_file.open("wb") as output:
            print(f"The bundled API serves {INCIDENTS:,} incidents at {api.url}")
            environment = build_environment(folder, api)
            options = {"stdout": output, "stderr": output}
            with run_dagster(JOB, folder, environment, **options) as process:
                while process.poll() is None:
                    _show_progress(api)
                    time.sleep(0.5)
            _show_progress(api, done=True)
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


def _show_progress(api: DemoApi, done: bool = False) -> None:
    begun = {request.resource for request in api.requests if request.resource}
    line = f"  {len(begun & {e.name for e in ENDPOINTS})} of {len(ENDPOINTS)} resources begun, "
    line += f"{len(api.requests)} requests"
    if sys.stdout.isatty():
        print(f"\r{line}", end="\n" if done else "", flush=True)
    elif done:
        print(line, flush=True)
    else:
        print(f"{line} ...", flush=True)


def _print_results(settings: Settings) -> None:
    database, copy = _show(settings.database), _show(settings.published_copy)
    with duckdb.connect(copy, read_only=True) as connection:
        rows = connection.execute(
            "SELECT resource, table_rows, requests, seconds FROM incident_sync.log WHERE run_id = "
            "(SELECT max_by(run_id, finished_at) FROM incident_sync.log) ORDER BY resource"
        ).fetchall()
    print(f"\n{format_table(('resource', 'rows', 'requests', 'seconds'), rows)}")
    print(f"\n{len(rows)} tables are in schema incident_api of {database}.")
    print("Look inside its published copy, which is safe to keep open:\n")
    python = f"import duckdb; sql = duckdb.connect('{copy}', read_only=True).sql"
    print(f'  {_show(Path(sys.executable))} -i -c "{python}"\n')
    print("and paste there:\n")
    for title, query in QUERIES.items():
        print(f'  # {title}\n  sql("""{query}""")\n')
    print("Next: `make demo-ui` opens the Dagster UI on this demo. For your own account, copy")
    print(".env.example to .env, fill in two settings, then `make check` and `make ui`.")


def _show(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

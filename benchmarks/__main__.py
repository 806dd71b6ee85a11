"""`python -m benchmarks`: run everything side by side in one go, print it, and write it down.

What is run is in `ways`, how in `measuring`, what becomes of it in `report`.
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measuring import FOLDER, Run, continue_from, measure, prepare_place
from benchmarks.report import describe_machine, keep_sections, read_runs, render
from benchmarks.serving import serve
from benchmarks.ways import LATENCIES, ONCE, ROUNDS, SITUATIONS, SIZES, WAYS, Way, list_runs

DOCUMENT = Path("docs/benchmarks.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit code: 1 if a way failed or missed rows."""
    given = _parse(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = given.render or FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"
    if not given.render:
        _write_runs(results, given)
    machine, runs = read_runs(results)
    document = render(machine, runs)
    print(document)
    if given.write:
        before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
        DOCUMENT.write_text(keep_sections(document, before))
    return 1 if any(run.error for run in runs) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [way.name for way in WAYS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, metavar="INCIDENTS")
    parser.add_argument("--latencies", nargs="+", type=float, metavar="MS")
    parser.add_argument("--ways", nargs="+", choices=names, metavar="WAY", help=", ".join(names))
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=[*SITUATIONS])
    parser.add_argument("--rounds", type=int, help="otherwise 5 at 500 incidents, else 3")
    parser.add_argument("--quick", action="store_true", help="500 incidents, 0 ms, one round")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT}")
    parser.add_argument("--render", type=Path, metavar="FILE", help="run nothing, read this file")
    given = parser.parse_args(arguments)
    given.sizes = given.sizes or (SIZES[:1] if given.quick else SIZES)
    given.latencies = given.latencies or (LATENCIES[:1] if given.quick else LATENCIES)
    given.rounds = given.rounds or (1 if given.quick else None)
    chosen = given.ways or [name for name in names if not (given.quick and name in ONCE)]
    needed = {*chosen, *(way.continues for way in WAYS if way.name in chosen)}
    given.ways = tuple(way for way in WAYS if way.name in needed)
    return given


def _write_runs(results: Path, given: argparse.Namespace) -> None:
    try:
        with results.open("w") as file:
            file.write(json.dumps(describe_machine()) + "\n")
            for run in _run_all(given):
                file.write(json.dumps(asdict(run)) + "\n")
                file.flush()
                print(_describe(run), flush=True)
    except KeyboardInterrupt:
        print(f"Stopped; `python -m benchmarks --render {results}` shows what was measured.")
        raise
    finally:
        shutil.rmtree(FOLDER / "places", ignore_errors=True)


def _run_all(given: argparse.Namespace) -> Iterator[Run]:
    for size in given.sizes:
        with serve(size) as api:
            for latency in given.latencies:
                api.call("set_latency", latency)
                for number in range(1, 1 + (given.rounds or ROUNDS.get(size, 3))):
                    mark = f"change {latency:g} {number}"
                    changed = False
                    for way in given.ways:
                        prepare_place(way)
                    for situation, way in list_runs(
                        _rotate(given.ways, number), given.situations, size, latency, number
                    ):
                        if situation == "changed" and not changed:
                            api.call("change", mark)
                            changed = True
                        continue_from(way)
                        yield measure(way, situation, size, latency, number, api, mark)


def _rotate(ways: tuple[Way, ...], number: int) -> tuple[Way, ...]:
    """Let another way begin in each round; what continues others stays behind them."""
    free = tuple(way for way in ways if not way.continues)
    start = number % max(len(free), 1)
    return free[start:] + free[:start] + tuple(way for way in ways if way.continues)


def _describe(run: Run) -> str:
    figures = (
        f"{run.wall:8.2f} s {run.cpu:8.2f} CPU {run.memory >> 20:6} MB {run.requests:6} requests"
    )
    return (
        f"{run.size:6} {run.latency:4g} ms {run.situation:10} {run.way:15} {figures}"
        f" {run.error or run.left_out or ''}"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

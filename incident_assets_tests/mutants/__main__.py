"""Tries all mutations, or those whose numbers are given; prints each, and the survivors at the end.

Exit code 1 where one survived that may not: a chosen one, or a drawn one without a reason in
`known`.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from incident_assets_tests.mutants.chosen import CHOSEN
from incident_assets_tests.mutants.drawn import draw
from incident_assets_tests.mutants.known import EXPLAINED
from incident_assets_tests.mutants.trying import (
    Mutation,
    copy_checkout,
    end_all,
    run_tests,
    try_mutation,
)

WORKERS = 2


def main(arguments: Sequence[str]) -> int:
    """Try the mutations of these numbers, all if none; return the exit code."""
    begun = time.monotonic()
    drawn = draw()
    every = [*(x.build() for x in CHOSEN), *(x.build() for x in drawn)]
    names = {number: x.name for number, x in enumerate(drawn, len(CHOSEN) + 1)}
    wanted = sorted(map(int, arguments)) or range(1, len(every) + 1)
    mutations = {number: every[number - 1] for number in wanted}
    with TemporaryDirectory() as folder:
        killers = try_all(mutations, Path(folder))
        unproven = prove(killers, Path(folder) / "1")
    survivors = sorted(number for number, killer in killers.items() if killer is None)
    faults = [number for number in survivors if names.get(number) not in EXPLAINED]
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(mutations)} mutations in {minutes:.0f} minutes, {len(survivors)} survived")
    for number in survivors:
        reason = EXPLAINED.get(names.get(number, ""), "no test notices it: one is missing")
        print(f"{number:>2}  {names.get(number, mutations[number].says)}\n    {reason}")
    if unproven:
        print(f"{unproven} fails without a mutation too, so what it noticed is not known")
    return 1 if faults or unproven else 0


def try_all(mutations: Mapping[int, Mutation], folder: Path) -> dict[int, str | None]:
    """Return what noticed each mutation, None for a survivor; print them as they come."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for worker in range(1, WORKERS + 1):
        copies.put(copy_checkout(folder / str(worker)))

    def attempt(mutation: Mutation) -> str | None:
        copy = copies.get()
        try:
            return try_mutation(mutation, copy)
        finally:
            copies.put(copy)

    killers = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        numbers = {pool.submit(attempt, x): number for number, x in mutations.items()}
        try:
            for future in as_completed(numbers):
                number, killer = numbers[future], future.result()
                killers[number] = killer
                mutation = mutations[number]
                end = f"killed by {killer}" if killer else "SURVIVED"
                print(f"{number:>2}  {mutation.place:<28} {mutation.says}: {end}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise
    return killers


def prove(killers: Mapping[int, str | None], copy: Path) -> str | None:
    """Return a test that is said to have noticed something, and fails without it too."""
    tests = sorted({killer for killer in killers.values() if killer and "::" in killer})
    return run_tests(tests, copy) if tests else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

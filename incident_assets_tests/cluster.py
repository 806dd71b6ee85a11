"""A PostgreSQL cluster of Debian's packages on loopback, for tests that need one.

Skipped where there is none, or where the packages of a lake are missing; in CI that is a failure.
What is kept in it is the tests' own.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dlt
import pytest

PACKAGES = ("psycopg2", "duckdb_extension_ducklake", "duckdb_extension_postgres_scanner")
OPTIONS = "-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200 -c log_statement=all"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its port, and the file in which it logs each statement."""

    port: int
    log: Path

    def address(self, database: str) -> str:
        """Return what psycopg2 and DuckDB take for one of its databases."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def count_statements(self) -> int:
        """Return how many statements the cluster was sent so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("LOG:  statement" in line or "LOG:  execute" in line for line in lines)

    def run(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement in a session of its own and return its rows."""
        import psycopg2

        session = psycopg2.connect(self.address(database))
        session.autocommit = True
        try:
            with session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            session.close()


@dataclass
class Statements:
    """How many were sent by dlt's pipelines, and how many by all the rest."""

    dlts: int = 0
    ours: int = 0


@contextmanager
def count_statements(cluster: Cluster) -> Iterator[Statements]:
    """Give the numbers of statements sent in the block, known when it has ended."""
    counted, begun = Statements(), cluster.count_statements()

    def count(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            before = cluster.count_statements()
            try:
                return original(*args, **kwargs)
            finally:
                counted.dlts += cluster.count_statements() - before

        return run

    with pytest.MonkeyPatch.context() as patched:
        for name in ("run", "sync_destination"):
            patched.setattr(dlt.Pipeline, name, count(getattr(dlt.Pipeline, name)))
        yield counted
    counted.ours = cluster.count_statements() - begun - counted.dlts


@contextmanager
def start_cluster(*packages: str) -> Iterator[Cluster]:
    """Run a cluster until the block ends; skip where it or one of the packages is missing."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    missing = [name for name in (*PACKAGES, *packages) if not find_spec(name)]
    missing += [] if binaries else ["PostgreSQL's binaries"]
    if missing:
        if os.environ.get("CI") and find_spec("duckdb_extension_ducklake"):
            pytest.fail(f"missing: {', '.join(missing)}")
        pytest.skip(f"missing: {', '.join(missing)}")
    # Not below pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="incident_assets_pg_"))
    # It refuses to run as root.
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        owner = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries[-1] / program, "-D", folder / "data", *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **owner,
        )

    run("initdb", "-A", "trust", "-U", "postgres", "--no-sync")
    options = f"-p {port} -k {folder} {OPTIONS}"
    run("pg_ctl", "-w", "-l", str(log), "-o", options, "start")
    try:
        yield Cluster(port, log)
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

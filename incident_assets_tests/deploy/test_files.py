"""The files that a server is started from: valid, of one image and user, and without secrets.

That they are taken by what reads them is checked by linters where the environment has them (the
extra `dev`), so in CI. What the processes do is in `test_topology`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from incident_assets.settings import Settings
from incident_assets_tests.deploy.test_settings import FOLDER, read
from incident_assets_tests.pages import ROOT

COMPOSE = read(FOLDER / "compose.yaml")
VALUES = read(FOLDER / "values.yaml")
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
(CODE,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
IMAGE = "${IMAGE:-incident-assets:latest}"
OURS = {name: x for name, x in COMPOSE["services"].items() if x["image"] == IMAGE}
SECRET = re.compile(r"KEY|PASSWORD|SECRET|TOKEN|WEBHOOK")
LINTERS = {
    "hadolint": ["hadolint", "Dockerfile"],
    "compose": ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
}


@pytest.mark.parametrize("linter", LINTERS)
def test_a_linter_takes_it(linter: str) -> None:
    program, *arguments = LINTERS[linter]
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is missing")
    done = subprocess.run([path, *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_are_of_one_image_and_of_users_without_rights() -> None:
    assert OURS.keys() == {"migrate", "code", "webserver", "daemon"}
    for name, service in COMPOSE["services"].items():
        assert service["user"] in ("10001:10001", "postgres"), name
        assert service["restart"] in ("unless-stopped", "on-failure:3"), name
        assert service["healthcheck"], name
    for name, service in OURS.items():
        assert service["cap_drop"] == ["ALL"] and service["read_only"], name
        assert service["environment"] == OURS["code"]["environment"], name


def test_each_waits_for_what_it_needs() -> None:
    waits = {name: set(x.get("depends_on", ())) for name, x in COMPOSE["services"].items()}
    assert waits == {
        "postgres": set(),
        "migrate": {"postgres"},
        "code": {"postgres", "migrate"},
        "webserver": {"code"},
        "daemon": {"code"},
    }


def test_no_secret_stands_in_a_file() -> None:
    for name, service in COMPOSE["services"].items():
        for variable, value in service["environment"].items():
            assert not SECRET.search(variable) or re.fullmatch(r"\$\{\w+:\?.*\}", value), name
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert not [variable for variable in deployment["env"] if SECRET.search(variable)]
    assert "postgresqlPassword" not in VALUES["postgresql"]
    for line in (FOLDER / "server.env.example").read_text().splitlines():
        assert not SECRET.search(line.partition("=")[0].lstrip("# ")) or line.endswith("="), line
    assert "server.env" in (ROOT / ".gitignore").read_text().split()


def test_settings_in_the_files_are_settings() -> None:
    known = {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    for path in FOLDER.iterdir():
        used = set(re.findall(r"INCIDENT_[A-Z_]+", path.read_text()))
        assert used <= known | {"INCIDENT_API_KEY"}, path


def test_the_image_is_built_from_the_lock_and_runs_as_nobody() -> None:
    builder, final = re.split(r"^FROM .*\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert "--require-hashes -r locks/deploy.txt" in builder and "pip" not in final
    assert "USER 10001:10001" in final and "HEALTHCHECK" in final
    sources = re.findall(r"^COPY (?!--from)(?:(.*) )?\S+$", final, re.MULTILINE)
    assert [ROOT / name for x in sources for name in x.split() if not (ROOT / name).exists()] == []


def test_the_location_has_its_name_everywhere() -> None:
    (location,) = read(FOLDER / "workspace.yaml")["load_from"]
    (server,) = VALUES["dagsterWebserver"]["workspace"]["servers"]
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert location["grpc_server"]["location_name"] == server["name"] == "incident_assets"
    assert (server["host"], server["port"]) == (deployment["name"], deployment["port"])
    assert deployment["dagsterApiGrpcArgs"] == json.loads(CODE)[-4:]


def test_the_chart_has_what_the_other_servers_have() -> None:
    """But for storage, which the chart has names for, and logs, which are the pods'."""
    server = read(FOLDER / "dagster.yaml")
    added: dict[str, Any] = VALUES["additionalInstanceConfig"]
    assert {name: server[name] for name in added} == added
    daemon = VALUES["dagsterDaemon"]
    coordinator = daemon["runCoordinator"]["config"]["customRunCoordinator"]
    assert server["run_coordinator"].items() <= coordinator.items()
    assert VALUES["telemetry"] == server["telemetry"]
    assert VALUES["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    left = server.keys() - added.keys() - {"run_coordinator", "telemetry"}
    assert left == {"storage", "local_artifact_storage", "compute_logs"}
    off = (daemon["runMonitoring"], daemon["runRetries"], VALUES["retention"])
    assert not any(x["enabled"] for x in off)  # or the chart would say them a second time

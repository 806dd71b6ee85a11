"""The key stays secret, whatever goes wrong: in logs at debug, events, files, redirects, proxies.

Certificates and a proxy are the tests' own, on loopback.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import trustme

from incident_assets.demo.account import generate_account
from incident_assets.demo.faults import (
    Fault,
    cut_short,
    drip,
    html,
    rate_limited,
    redirect,
    reset,
    status,
    text,
    without_id,
    without_list,
    without_meta,
)
from incident_assets.demo.server import DemoApi
from incident_assets.settings import read_settings
from incident_assets.sync.log import Outcome
from incident_assets.sync.run import run_sync
from incident_assets.values import SettingError
from incident_assets_tests.conftest import KEY, read_rows, run_command

Execute = Callable[..., dg.ExecuteInProcessResult]
Sync = Callable[..., dict[str, Outcome]]
ECHO = f'{{"errors": [{{"message": "no such key: {KEY}"}}], "request_id": "{KEY}"}}'.encode()
FAULTS = {
    "actions": status(401, ECHO),
    "catalog_types": status(500, ECHO),
    "custom_fields": text(f"<html>{KEY}</html>".encode()),
    "follow_ups": cut_short(),
    "incident_roles": reset(),
    "incident_timestamps": rate_limited(0),
    "incident_updates": without_meta(),
    "incident_statuses": redirect(f"https://elsewhere.invalid/?key={KEY}"),
    "workflows": html(),
    "users": drip(0.02),
    "severities": without_list(),
    "schedules": without_id(),
}


@pytest.mark.fault(
    "every fault at once, all logs at debug, and an API that echoes the key",
    "each resource fails with its reason",
    "the key is in no log, event, traceback, file or database",
)
def test_the_key_is_nowhere(
    api: DemoApi,
    execute: Execute,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("INCIDENT_REQUEST_TIMEOUT", "0.3")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    for resource, effect in FAULTS.items():
        api.inject(Fault(effect, resource=resource))
    with caplog.at_level(logging.DEBUG):
        for name in ("dlt", "urllib3", "requests", "dagster", "incident_assets"):
            caplog.set_level(logging.DEBUG, name)
        result = execute()
    assert not result.success
    failed = read_rows("SELECT resource, error FROM incident_sync.log WHERE error IS NOT NULL")
    assert {row["resource"] for row in failed} == set(FAULTS)
    output = capfd.readouterr()
    shown = [record.getMessage() + str(record.exc_text) for record in caplog.records]
    events = [entry.to_json() for entry in instance.all_logs(result.run_id)]
    for place in (output.out, output.err, *shown, *events, repr(failed)):
        assert KEY not in place
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in [*files, *Path(instance.storage_directory()).rglob("*")]:
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.fault(
    "a redirect, to another host or another path",
    "not followed; the resource fails at once and names the target",
    "the key, which goes nowhere else; what the resource had",
)
def test_a_redirect_is_not_followed(api: DemoApi, sync: Sync) -> None:
    with DemoApi(api.account, key=KEY) as elsewhere:
        api.inject(Fault(redirect(f"{elsewhere.url}/v2/users"), resource="users"))
        outcome = sync("users")["users"]
        assert not elsewhere.requests
    assert outcome.requests == 1
    assert f"302: redirected to {elsewhere.url}/v2/users" in str(outcome.failure)
    assert "INCIDENT_API_BASE_URL" in str(outcome.failure)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_api(
    authority: trustme.CA, api: DemoApi, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DemoApi]:
    """The bundled API behind TLS, with a certificate that nobody trusts by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with DemoApi(generate_account(20), key=KEY, tls=context) as served:
        monkeypatch.setenv("INCIDENT_API_BASE_URL", served.url)
        yield served


def test_an_unknown_certificate_is_refused(tls_api: DemoApi) -> None:
    outcome = run_sync(read_settings(), ["users"])[0]
    assert "certificate verify failed" in str(outcome.failure)
    assert not tls_api.requests


def test_a_certificate_bundle_of_ones_own_is_trusted(
    tls_api: DemoApi, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    outcome = run_sync(read_settings(), ["users"])[0]
    assert outcome.failure is None and outcome.rows == len(tls_api.rows("users"))
    # A response over TLS is cut off as well.
    monkeypatch.setenv("INCIDENT_REQUEST_TIMEOUT", "0.3")
    tls_api.inject(Fault(drip(0.02), resource="users"))
    outcome = run_sync(read_settings(), ["users"])[0]
    assert "INCIDENT_REQUEST_TIMEOUT" in str(outcome.failure)


class _Proxy(BaseHTTPRequestHandler):
    tunnels: list[str]

    def log_message(self, format: str, *args: Any) -> None:
        """Tunnels are kept in a list instead."""

    def do_CONNECT(self) -> None:
        self.tunnels.append(self.path)
        self.seen_headers.append(str(self.headers))
        host, port = urlsplit(f"//{self.path}").hostname, urlsplit(f"//{self.path}").port
        with socket.create_connection((host or "", port or 0)) as target:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            one = threading.Thread(target=_pump, args=(self.connection, target))
            one.start()
            _pump(target, self.connection)
            one.join(5)

    seen_headers: list[str]


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Proxy]]:
    handler = type("Proxy", (_Proxy,), {"tunnels": [], "seen_headers": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def test_a_proxy_is_used_and_never_sees_the_key(
    tls_api: DemoApi,
    proxy: type[_Proxy],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    outcome = run_sync(read_settings(), ["users"])[0]
    assert outcome.failure is None and outcome.rows == len(tls_api.rows("users"))
    assert set(proxy.tunnels) == {urlsplit(tls_api.url).netloc}
    assert not any(KEY in headers for headers in proxy.seen_headers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "job", "execute", "-m", "incident_assets.definitions", "-j", "sync_live"],
        ["incident_assets", "sync", "--select", "severities"],
        ["incident_assets", "check"],
    ],
    ids=["dagster", "source", "check"],
)
def test_nothing_is_told_to_anybody_else(
    command: list[str], api: DemoApi, proxy: type[_Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RUNTIME__DLTHUB_TELEMETRY", raising=False)
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    assert proxy.tunnels == []


def test_plain_http_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_API_KEY", KEY)
    monkeypatch.setenv("INCIDENT_API_BASE_URL", "http://api.example.com")
    with pytest.raises(SettingError, match="plain http"):
        run_sync(read_settings(), ["users"])


@pytest.mark.slow
@pytest.mark.fault(
    "names and messages with terminal codes and line breaks",
    "printed and logged as one line without them",
    "the text itself, in the table",
)
def test_control_characters_reach_no_terminal(api: DemoApi) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\nINFO all is well\u2028"
    api.account.identity["name"] = evil
    body = f'{{"errors": [{{"message": {_quote(evil)}}}], "request_id": {_quote(evil)}}}'
    api.inject(Fault(status(500, body.encode()), resource="users"))
    api.inject(Fault(redirect("https://x/\x1b[2J".replace("\x1b", "%1b")), resource="severities"))
    for arguments in (["sync", "--select", "users,severities"], ["check"]):
        result = run_command("incident_assets", *arguments)
        assert "all is well" in result.stdout + result.stderr
        for character in ("\x1b", "\x07", "\r", "\u2028"):
            assert character not in result.stdout + result.stderr
        assert not any(line.startswith("INFO all") for line in result.stdout.splitlines())


def _quote(value: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" for c in value) + '"'

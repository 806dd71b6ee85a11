"""Settings that make no sense are refused in one sentence, where they are read."""

import os
import re
from pathlib import Path

import pytest

from incident_assets.settings import Settings, read_settings
from incident_assets.values import SettingError
from incident_assets.warehouse import schemas

DATABASE, PUBLISHED, REPORT = (f"INCIDENT_{x}_PATH" for x in ("DUCKDB", "PUBLISHED", "REPORT"))
ADDRESSES = [
    "https://host:99999",
    "https://host:0",
    "https://host:-1",
    "https://host:http",
    "https://:8080",
    "https://exa mple.com",
    "https://exa%20mple.com",
    "https://a..b",
    "https://[::1",
    "https://host\\elsewhere",
    "https://☃️.example.com",
    f"https://{'a' * 64}.com",
    f"https://{'a.' * 130}com",
    "ftp://example.com",
    "https://",
]


def expect_refusal(*names: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings()
    text = str(caught.value)
    assert all(name in text for name in names) and "\n" not in text, text


@pytest.mark.fault(
    "a setting makes no sense: a number, a port, a host, a path",
    "one sentence where settings are read names it and says what it should be",
    "everything; nothing was requested or written",
)
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "1e300", "soon", "0"])
def test_a_number_of_seconds_is_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_READ_TIMEOUT", value)
    expect_refusal("INCIDENT_READ_TIMEOUT", value.replace("1e300", "1e+300"), "should be a number")
    assert not list(Path().iterdir())


def test_not_to_wait_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "0")
    assert read_settings().lock_timeout == 0
    monkeypatch.setenv("INCIDENT_LOCK_TIMEOUT", "-1")
    expect_refusal("INCIDENT_LOCK_TIMEOUT", "0 or more")


def test_days_are_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCIDENT_KEEP_RUNS_DAYS", "365")
    assert read_settings().keep_runs_days == 365
    monkeypatch.setenv("INCIDENT_KEEP_RUNS_DAYS", "-1")
    expect_refusal("INCIDENT_KEEP_RUNS_DAYS", "number of days, 0 or more")
    monkeypatch.delenv("INCIDENT_KEEP_RUNS_DAYS")
    monkeypatch.setenv("INCIDENT_LAKE_KEEP_DAYS", "0")
    expect_refusal("INCIDENT_LAKE_KEEP_DAYS", "number of days, above 0")


def test_personal_data_is_kept_hashed_with_a_key_or_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings().personal_data == "keep"
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA", "hide")
    expect_refusal("INCIDENT_PERSONAL_DATA is 'hide'", "keep, hash or drop")
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA", "hash")
    expect_refusal("INCIDENT_PERSONAL_DATA_KEY is not set", "at least 16")
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA_KEY", "shorter")
    expect_refusal("INCIDENT_PERSONAL_DATA_KEY has 7 characters")
    monkeypatch.setenv("INCIDENT_PERSONAL_DATA_KEY", "long enough for a key")
    assert "long enough" not in repr(read_settings())


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_can_be_asked(address: str) -> None:
    with pytest.raises(SettingError, match=r"INCIDENT_API_BASE_URL is no web address.*like https"):
        Settings(base_url=address).require_base_url()
    with pytest.raises(SettingError, match="INCIDENT_ALERT_WEBHOOK is no web address") as caught:
        Settings(alert_webhook=f"{address}/secret").find_webhook()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://api.example.com:8443/gateway",
        "https://münchen.example/a%20b",
        "https://a_b.example.",
        "https://[::1]:80",
        "https://10.0.0.1",
        "https://localhost",
    ],
)
def test_an_unusual_address_stays_as_it_is(address: str) -> None:
    assert Settings(base_url=f"{address}/").require_base_url() == address


@pytest.mark.fault(
    "two settings lead to one file, straight or through links",
    "one sentence where settings are read names both",
    "the file, whatever it is",
)
@pytest.mark.parametrize(
    ("name", "path"),
    [
        (PUBLISHED, "data/incidents.duckdb"),
        (PUBLISHED, "data/../data/incidents.duckdb"),
        (PUBLISHED, "data/incidents.duckdb.wal"),
        (PUBLISHED, "data/incidents.duckdb.lock"),
        (PUBLISHED, "data/incidents.duckdb.work/copy.duckdb"),
        (PUBLISHED, "data/hard.duckdb"),
        (PUBLISHED, "data/soft.duckdb"),
        (REPORT, "data/incidents.duckdb"),
        (REPORT, "data/incidents.duckdb.holder"),
        (REPORT, "data/incidents.published.duckdb"),
        (REPORT, "data/incidents.published.previous.duckdb"),
        (REPORT, "data/hard.duckdb"),
        (REPORT, "folder/incidents.duckdb"),
    ],
)
def test_paths_lead_to_files_of_their_own(
    name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    Path("data/incidents.duckdb").write_text("rows")
    os.link("data/incidents.duckdb", "data/hard.duckdb")
    Path("data/soft.duckdb").symlink_to("incidents.duckdb")
    Path("folder").symlink_to("data")
    monkeypatch.setenv(name, path)
    expect_refusal(name, PUBLISHED if "published" in path else DATABASE)
    with pytest.raises(SettingError):  # nor where a resource gives the path of the database
        Settings(duckdb_path="data/incidents.duckdb", report=path, published=path)


@pytest.mark.parametrize("name", [DATABASE, PUBLISHED, REPORT])
@pytest.mark.parametrize("path", [".", "..", "data/..", "/", "s3://bucket/incidents.duckdb"])
def test_a_path_is_that_of_a_file(name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, path)
    expect_refusal(name, path, "path of a file")


def test_a_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingError, match="folder that this was started in is gone"):
        read_settings()


def test_a_number_says_of_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, unit in (("BODY_LIMIT", "megabytes"), ("KEEP_RUNS_DAYS", "days")):
        monkeypatch.setenv(f"INCIDENT_{name}", "-1")
        with pytest.raises(SettingError, match=f"INCIDENT_{name} is -1.0: .* number of {unit},"):
            read_settings()
        monkeypatch.delenv(f"INCIDENT_{name}")


def test_a_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE, "~/mine.duckdb")
    assert read_settings().database == Path.home() / "mine.duckdb"


@pytest.mark.fault(
    "a database or its copy is called like one of the schemas",
    "one sentence where settings are read names the setting and says what to do",
    "everything; nothing was requested or written",
)
@pytest.mark.parametrize("setting", [DATABASE, PUBLISHED])
@pytest.mark.parametrize("name", [x for x in vars(schemas) if x.endswith("_SCHEMA")])
def test_a_database_is_not_called_like_a_schema_in_it(
    name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = getattr(schemas, name)
    for path in (
        f"data/{schema}.duckdb",
        f"{schema.upper()}.v2.db",
        schema,
        f"{schema}_staging.db",
    ):
        monkeypatch.setenv(setting, path)
        expect_refusal(setting, "call the file something else")
    monkeypatch.setenv(setting, f"data/{schema}_of_ours.duckdb")
    read_settings()


@pytest.mark.parametrize(("name", "sign"), [("100%", "percent sign"), ("eh?", "question mark")])
def test_a_sign_that_no_library_can_do_with_is_refused_through_links(
    name: str, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(name).mkdir()
    Path("plain").mkdir()
    Path("link").symlink_to(name)
    Path(name, "link").symlink_to("../plain")
    for path in (f"{name}/incidents.duckdb", "link/incidents.duckdb", f"{name}/link/x.duckdb"):
        monkeypatch.setenv(DATABASE, path)
        expect_refusal(DATABASE, sign, name)
    monkeypatch.setenv(DATABASE, f"{name}.duckdb")
    expect_refusal(DATABASE, sign, name)


@pytest.mark.parametrize(
    ("catalog", "data", "said"),
    [
        ("postgres:dbname=x", "", "INCIDENT_LAKE_DATA is not: a lake needs both"),
        ("", "lake", "INCIDENT_LAKE_CATALOG is not: a lake needs both"),
        ("mysql:db=x", "lake", "should look like `postgres:dbname"),
        ("postgres:dbname=x password=tiger", "lake", "PGPASSWORD"),
        ("postgres:postgresql://ana:tiger@host/x", "lake", "PGPASSWORD"),
        ("postgres:dbname=x", "gs://bucket", "a folder, or s3://"),
    ],
)
def test_a_lake_is_two_settings_without_a_password(catalog: str, data: str, said: str) -> None:
    with pytest.raises(SettingError, match=re.escape(said)) as caught:
        Settings(lake_catalog=catalog, lake_data=data)
    assert "tiger" not in str(caught.value)
    assert Settings(lake_catalog="postgres:dbname=x", lake_data="s3://bucket/lake").lake_catalog

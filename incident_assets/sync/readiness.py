"""Whether a real account is ready: key, permissions and database, asked for without loading.

`incident-assets check` prints this. Nothing is written, not even a database that is not there yet,
but whose a database is, where `accept_account` was asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from requests.exceptions import RequestException

from incident_assets.api.endpoints import ENDPOINTS, Endpoint
from incident_assets.api.failures import describe_failure, describe_missing, is_missing
from incident_assets.api.key import Key, resolve_key
from incident_assets.api.names import find_moments, say_missing
from incident_assets.api.pages import BadPage, Page, PageReader
from incident_assets.api.session import Identity, ask, read_identity
from incident_assets.settings import Settings
from incident_assets.sync import account
from incident_assets.sync.telemetry import opt_out
from incident_assets.values import SettingError
from incident_assets.warehouse.file import DatabaseError
from incident_assets.warehouse.place import find_warehouse


@dataclass(frozen=True)
class Readiness:
    """One thing that was checked: `ready` says whether a sync would get past it.

    `warns` if it would, but leave something empty.
    """

    subject: str
    ready: bool
    detail: str
    warns: bool = False


def examine(settings: Settings, accept_account: bool = False) -> Iterator[Readiness]:
    """Yield one for address, key, each resource, moments and database, as they come.

    With `accept_account`, the database belongs to the account of address and key from now on.
    """
    opt_out()
    key = identity = None
    try:
        yield Readiness("INCIDENT_API_BASE_URL", True, settings.require_base_url())
        reachable = True
    except SettingError as error:
        reachable = False
        yield Readiness("INCIDENT_API_BASE_URL", False, str(error))
    try:
        key = resolve_key()
        yield Readiness("API key", True, f"from {key.origin}")
    except SettingError as error:
        yield Readiness("API key", False, str(error))
    if reachable and key is not None:
        identity = read_identity(settings, key)
        whose = "unknown: /v1/identity does not answer (no failure)"
        if identity:
            roles = ", ".join(identity.roles) or "none"
            whose = f"{identity.name} at {identity.dashboard_url}; roles: {roles}"
        yield Readiness("whose key", True, whose)
        for endpoint in ENDPOINTS:
            readiness, page = _try_resource(settings, key, endpoint)
            yield readiness
            if page and endpoint.name == "incident_timestamps":
                yield _judge_moments(settings, page)
    database = _try_database(settings)
    yield database
    if reachable and database.ready and find_warehouse(settings).exists():
        yield _judge_account(settings, identity, accept_account)


def _try_resource(
    settings: Settings, key: Key, endpoint: Endpoint
) -> tuple[Readiness, Page | None]:
    """Ask for a page in the newest way that the API knows."""
    url, missing = settings.require_base_url(), []
    for way in endpoint.ways:
        size = {} if way.page_size is None else {"page_size": "1"}
        try:
            page = PageReader(endpoint, way).read(ask(settings, key, way.path, size))
        except (RequestException, BadPage) as error:
            failure = describe_failure(error, url, key, quotes=not settings.masks_people)
            if not is_missing(error):
                return Readiness(endpoint.name, False, str(failure)), None
            missing.append((way.path, failure))
        else:
            return Readiness(endpoint.name, True, f"readable at {way.path}"), page
    if len(missing) > 1:
        failure = describe_missing(missing, url)
    return Readiness(endpoint.name, False, str(failure)), None


def _judge_moments(settings: Settings, page: Page) -> Readiness:
    rows = [msgspec.to_builtins(item) for part in page.parts for item in part.items]
    try:
        moments = find_moments(settings, [(x["id"], _read_text(x.get("name"))) for x in rows])
    except SettingError as error:
        return Readiness("moments", False, str(error))
    if said := say_missing(moment for moment, found in moments.items() if not found):
        return Readiness("moments", True, said, warns=True)
    return Readiness("moments", True, "each has its timestamp")


def _read_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _try_database(settings: Settings) -> Readiness:
    path, warehouse = settings.database, find_warehouse(settings)
    try:
        if warehouse.exists():
            with warehouse.open(0, "incident-assets check"):
                return Readiness("database", True, f"{settings.database_name} can be written")
    except DatabaseError as error:
        return Readiness("database", False, str(error))
    if warehouse.has_file:
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        ready = folder.is_dir() and _is_writable(folder)
        detail = "will be made by the first sync" if ready else f"{folder} cannot be written"
        return Readiness("database", ready, f"{warehouse}: {detail}")
    return Readiness("database", True, f"{warehouse}: will be made by the first sync")


def _judge_account(settings: Settings, identity: Identity | None, accept: bool) -> Readiness:
    """Say whether the database is this account's, and its key the one that it was."""
    if accept and identity is None:
        return Readiness("account", False, "/v1/identity does not answer, so nothing was accepted")
    try:
        with find_warehouse(settings).open(0, "incident-assets check") as connection:
            if accept and identity:
                account.accept_account(connection, settings, identity)
            found = account.find_account(connection, settings, identity)
    except DatabaseError as error:
        return Readiness("account", False, str(error))
    if found.lost_roles:
        lost = ", ".join(sorted(found.lost_roles))
        said = f"the key has lost {lost}: syncs mark nothing as deleted; give it back, or say that "
        return Readiness("account", True, f"{said}it is right by --accept-account", warns=True)
    return Readiness("account", True, "accepted" if accept else "the database is this account's")


def _is_writable(folder: Path) -> bool:
    probe = folder / ".incident_assets_probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True

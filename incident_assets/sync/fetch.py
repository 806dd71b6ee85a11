"""Fetch: whole listings through dlt's rest_api source, outside any pipeline.

`build_config` has the shape of the document that the project was created from; docs/seed.md lists
where it differs. A listing that fails costs the others nothing. What the listings mean for the
tables is decided in `plan`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import dlt
from dlt.extract import DltResource, DltSource
from dlt.sources.helpers.rest_client.exceptions import IgnoreResponseException
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig
from requests import Response

from incident_assets.api.cut_off import Stop
from incident_assets.api.endpoints import Endpoint
from incident_assets.api.failures import (
    Failure,
    describe_failure,
    describe_missing,
    describe_wrong_address,
    find_request_error,
    is_missing,
)
from incident_assets.api.key import Key, LazyBearerAuth
from incident_assets.api.pages import BadPage, IgnoredFilter, PageReader, VariantPaginator
from incident_assets.api.session import build_session, find_path
from incident_assets.settings import Settings
from incident_assets.sync.listing import Listing, is_its_own
from incident_assets.sync.plan import Plan
from incident_assets.warehouse.interrupts import find_interrupt

logger = logging.getLogger(__name__)

AT_ONCE = 5  # listings; most are one page, and more would hold more bodies at once
WALKS_AT_ONCE = 8  # of one listing, where rows are asked for incident by incident
SIGHT = 0.5  # seconds until a signal is seen at the latest
GRACE = 3.0  # seconds that an interrupt waits for requests that cannot be cut off
OF_INCIDENT = "incident_id"  # parameter and column
GONE_STATUSES = (404, 410, 422)  # of an incident whose updates are asked for
PARENT = "listed_incidents"  # resource that gives rest_api the incidents to ask for


def build_config(
    endpoints: Iterable[Endpoint], base_url: str, key: Key | None = None
) -> dict[str, Any]:
    """Return the rest_api configuration of these resources, each asked for in its newest way."""
    return {
        "client": {"base_url": base_url, "auth": LazyBearerAuth(key)},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {"name": endpoint.name, "endpoint": _build_endpoint(endpoint)} for endpoint in endpoints
        ],
    }


def _build_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    way = endpoint.newest
    # Each resource has params of its own: dlt shares one dict among those without.
    params: dict[str, Any] = {**way.params, **way.variants[0]}
    paginator: Any = {"type": "single_page"}
    if way.page_size is not None:
        params["page_size"] = way.page_size
        paginator = {
            "type": "cursor",
            "cursor_param": "after",
            "cursor_path": "pagination_meta.after",
        }
    if len(way.variants) > 1:
        paginator = VariantPaginator(way.variants)
    return {
        "path": way.path,
        "data_selector": endpoint.name,
        "params": {name: list(v) if isinstance(v, tuple) else v for name, v in params.items()},
        "paginator": paginator,
    }


class Fetcher:
    """Walks listings to their ends, all through one session."""

    def __init__(self, settings: Settings, key: Key, listings: Iterable[Listing]):
        self._url = settings.require_base_url()
        self._key = key
        self._quotes = not settings.masks_people
        self._stop = Stop()
        self._session = build_session(
            settings,
            {find_path(self._url + y.path): x.traffic for x in listings for y in x.endpoint.ways},
            stop=self._stop,
        )
        self._building = threading.Lock()  # dlt builds sources in one thread
        self._known: dict[tuple[str, str], Failure] = {}

    def fetch_all(self, plan: Plan) -> None:
        """Walk all listings of a plan, at most five at a time.

        What fails gives its listing up; a full disk and an interrupt are raised, and then no
        request goes on.
        """
        source = self._build_source(plan.free)
        walks: list[Future[None]] = []
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            walks.append(pool.submit(self._fetch_chain, plan))
            walks += [pool.submit(self.fetch, x, source.resources[x.name]) for x in plan.free]
            _await(walks)
            walks += [pool.submit(self._fetch_again, x) for x in plan.list_missing()]
            _await(walks)
        except BaseException:
            self._stop.set()
            wait(walks, GRACE)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        listings = list(plan.listings.values())
        if len(listings) > 1 and all(x.is_missing for x in listings):
            for listing in listings:
                listing.failure = describe_wrong_address(self._url)

    def _fetch_chain(self, plan: Plan) -> None:
        """Walk listings of which one decides what the next is asked for."""
        for listing in plan.chain:
            with listing.blamed():
                plan.prepare(listing)
            if listing.failure is None and not listing.asks_nothing:
                self.fetch(listing)

    def _fetch_again(self, listing: Listing) -> None:
        """Walk a listing's variants once more: a row may have moved from one into another."""
        logger.info("%s: stored rows were not listed, so all modes are walked again", listing.name)
        listing.begin_again()
        try:
            self._walk(listing, None)
            listing.spool.end()
        except Exception as error:
            self._give_up(listing, self._describe(self._find_cause(error)))

    def fetch(self, listing: Listing, newest: DltResource | None = None) -> None:
        """Walk a listing to its end, in the newest way that the API knows, or give it up.

        `newest` is the resource that asks in the newest way; without one, it is made.
        """
        for way in listing.endpoint.ways:
            listing.ask(way, listing.since, listing.incidents)
            try:
                self._walk(listing, newest if way is listing.endpoint.newest else None)
                if not listing.pages:
                    raise BadPage("not one page was asked for")
                listing.spool.end()
                listing.is_whole = True
                break
            except Exception as error:
                cause = self._find_cause(error)
            failure = self._describe(cause)
            if listing.pages or not is_missing(cause):
                break
            listing.missing.append((way.path, failure))
        listing.ended = time.monotonic()
        listing.seconds = listing.ended - (listing.traffic.started or listing.ended)
        if listing.is_whole:
            return
        if len(listing.missing) > 1 and listing.is_missing:
            failure = describe_missing(listing.missing, self._url)
        self._give_up(listing, failure)

    def _find_cause(self, error: Exception) -> Exception:
        """Return what made a walk fail; raise what is not this listing's own."""
        cause = find_request_error(error)
        # The text of one may quote what was on the wire, so it tells nothing of a disk.
        own = find_interrupt(error) is None if cause else is_its_own(error)
        if self._stop.event.is_set() or not own:
            raise error
        return cause or error

    def _describe(self, cause: Exception) -> Failure:
        return describe_failure(cause, self._url, self._key, self._quotes)

    def _give_up(self, listing: Listing, failure: Failure) -> None:
        # What hits many resources alike, such as a wrong key, is told once.
        known = self._known.setdefault((failure.message, failure.remedy), failure)
        listing.give_up(known, is_known=known is not failure)

    def _walk(self, listing: Listing, resource: DltResource | None) -> None:
        if listing.incidents is None or not self._walk_incidents(listing, listing.incidents):
            _iterate(resource or self._build_source([listing]).resources[listing.name])

    def _walk_incidents(self, listing: Listing, incidents: Sequence[str]) -> bool:
        """Ask incident by incident; return False where everything has to be asked for instead.

        One that is gone costs its own rows alone. Where none is there, it may be the path that is
        not, which shows when everything is asked for.
        """
        shares = [incidents[start::WALKS_AT_ONCE] for start in range(WALKS_AT_ONCE)]
        sources = [self._build_source([listing], share) for share in shares if share]
        why = "none of these incidents is there"
        with ThreadPoolExecutor(WALKS_AT_ONCE) as pool:
            walks = [pool.submit(_iterate, x.resources[listing.name]) for x in sources]
        try:
            for walk in walks:
                walk.result()
        except Exception as error:
            cause = find_request_error(error)
            if not isinstance(cause, IgnoredFilter):
                raise
            why = str(cause)
        else:
            if listing.gone and listing.pages:
                logger.warning(
                    "%s: the API has no more of %d incidents, such as %s; what the table has of "
                    "them stays until the next full listing",
                    listing.name,
                    len(listing.gone),
                    listing.gone[0],
                )
            if listing.pages or not listing.gone:
                return True
        logger.warning("%s: %s: asking for all", listing.name, why)
        listing.ask(listing.way)
        return False

    def _build_source(
        self, listings: Sequence[Listing], incidents: Sequence[str] | None = None
    ) -> DltSource:
        """Return the rest_api source of these listings; with incidents, of their rows alone."""
        asked = (
            replace(x.endpoint, ways=(replace(x.way, params={**x.way.params, **x.filters}),))
            for x in listings
        )
        config = build_config(asked, self._url, self._key)
        config["client"]["session"] = self._session
        for listing, resource in zip(listings, config["resources"], strict=True):
            resource["endpoint"]["response_actions"] = [_judge_pages(listing)]
        if incidents is not None:
            endpoint = config["resources"][0]["endpoint"]
            endpoint["params"][OF_INCIDENT] = f"{{resources.{PARENT}.id}}"
            page = [{"id": incident} for incident in incidents]
            config["resources"].insert(0, dlt.resource([page], name=PARENT))
        with self._building:
            source = rest_api_source(cast(RESTAPIConfig, config))
            for listing in listings:
                source.resources[listing.name].add_step(_take_pages(listing))
        return source


def _judge_pages(listing: Listing) -> Callable[[Response], None]:
    reader = PageReader(listing.endpoint, listing.way, listing.spool.unknown)

    def judge(response: Response) -> None:
        if listing.incidents is None:
            reader.judge(response)
            return
        asked = dict(_read_query(response))
        if response.status_code in GONE_STATUSES and "after" not in asked:
            listing.gone.append(asked[OF_INCIDENT])
            raise IgnoreResponseException  # ends this incident's walk alone
        reader.refuse_others(reader.judge(response), OF_INCIDENT, asked[OF_INCIDENT])

    return judge


def _take_pages(listing: Listing) -> Callable[[Any, Any], None]:
    def take(items: Any, meta: Any = None) -> None:
        response = items.response
        listing.take(response.page, _name_walk(response))

    return take


def _await(walks: Iterable["Future[None]"]) -> None:
    """Wait until all are done, or one of them raises."""
    going = set(walks)
    while going:
        # Time and again, since a signal that comes just before a wait is seen when the wait ends.
        done, going = wait(going, SIGHT, FIRST_EXCEPTION)
        for walk in done:
            walk.result()


def _iterate(resource: DltResource) -> None:
    for _ in resource:
        pass  # each page is taken by the resource's last step


def _read_query(response: Response) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(str(response.request.url)).query)


def _name_walk(response: Response) -> str:
    """Return what the pages of one walk have in common: their query without the cursor."""
    return repr([pair for pair in _read_query(response) if pair[0] != "after"])

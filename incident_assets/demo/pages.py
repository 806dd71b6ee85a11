"""`Pages`: the bodies that the bundled API sends, kept from one request to the next.

Which rows there are is `listings`' to say, and how a version shows them `versions`'.
"""

import json
from urllib.parse import parse_qs

import orjson

from incident_assets.demo.account import Account, Item
from incident_assets.demo.listings import (
    LARGEST_PAGE,
    Query,
    Selection,
    build_selection,
    cut_page,
    group_rows,
    select_rows,
)
from incident_assets.demo.versions import Calendar, show_row


class Pages:
    """Pages of an account's rows; to be forgotten when a row changes."""

    def __init__(self, account: Account):
        self._account = account
        self._largest = dict(LARGEST_PAGE)
        self._bodies: dict[tuple[str, str, Calendar, bool], bytes] = {}
        self._selections: dict[tuple[str, str, bool], Selection] = {}
        self._by_incident: dict[bool, dict[str, list[Item]]] = {}

    def paginate(self, path: str, page_size: int) -> None:
        """Cut a list of one's own into pages of at most that size."""
        self._largest[path] = page_size

    def forget(self) -> None:
        """Make everything anew from now on."""
        self._bodies.clear()
        self._selections.clear()
        self._by_incident.clear()

    def render(self, path: str, query: str, calendar: Calendar, sees_private: bool) -> bytes:
        """Return the body of a page. Raises InvalidRequest as the API would."""
        key = (path, query, calendar, sees_private)
        if key not in self._bodies:
            asked = parse_qs(query)
            page = cut_page(path, self._select(path, asked, sees_private), asked, self._largest)
            rows = [show_row(row, path, calendar) for row in page.rows]
            body: Item = {path.rpartition("/")[2]: rows}
            if page.meta is not None:
                body["pagination_meta"] = page.meta
            try:
                self._bodies[key] = orjson.dumps(body)
            except TypeError:  # numbers beyond 64 bits, or half a character
                self._bodies[key] = json.dumps(body).encode()
        return self._bodies[key]

    def _select(self, path: str, query: Query, sees_private: bool) -> Selection:
        # A walk asks for the same rows page after page.
        filters = {n: v for n, v in query.items() if n not in ("after", "page_size")}
        key = (path, str(filters), sees_private)
        if key not in self._selections:
            if path == "/v2/incident_updates" and filters.keys() == {"incident_id"}:
                # One look at all updates serves every incident.
                if sees_private not in self._by_incident:
                    listed = self._select(path, {}, sees_private).rows
                    self._by_incident[sees_private] = group_rows(listed, "incident_id")
                groups = self._by_incident[sees_private]
                return build_selection(groups.get(filters["incident_id"][0], []))
            self._selections[key] = select_rows(self._account, path, filters, sees_private)
        return self._selections[key]

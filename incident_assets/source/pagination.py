"""What a page is: reading one, refusing what only looks like one, and walking variants.

A page is trusted only if it is whole (paging that cannot lie): its list is there, every item has
an id, and a paginated endpoint says what comes next. Requests and retries are the transport's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests import Request, Response

from incident_assets.source.endpoints import Endpoint
from incident_assets.source.tables import is_storable, parse_json


class BadPage(Exception):
    """A response that is no page; `retryable` says whether asking again may help."""

    def __init__(self, message: str, retryable: bool = True):
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True)
class Page:
    """The items of one response, the cursor of the next page if any, and the announced total."""

    body: Mapping[str, Any]
    items: list[dict[str, Any]]
    after: str | None
    total: int | None


def read_page(endpoint: Endpoint, response: Response) -> Page:
    """Return the page in a successful response. Raises BadPage if it is not a whole one."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip() or "no content type"
    try:
        body = parse_json(response.content)
    except (ValueError, RecursionError):
        raise BadPage(f"the body is no JSON ({kind}, {len(response.content)} bytes)") from None
    if not isinstance(body, dict):
        raise BadPage(f"the body is no JSON object but {type(body).__name__}")
    items = body.get(endpoint.name)
    if not isinstance(items, list):
        raise BadPage(f"the page has no list {endpoint.name!r}")
    for number, item in enumerate(items):
        identifier = item.get("id") if isinstance(item, dict) else None
        if not isinstance(identifier, str) or not identifier or not identifier.isprintable():
            raise BadPage(f"item {number} of the page has no id", retryable=False)
    if endpoint.page_size is None:
        return Page(body, items, None, None)
    meta = body.get("pagination_meta")
    if not isinstance(meta, dict):
        raise BadPage("the page has no pagination_meta, so whether it is the last is unknown")
    after, total = meta.get("after"), meta.get("total_record_count")
    if after is not None and not (isinstance(after, str) and is_storable(after)):
        raise BadPage("the cursor pagination_meta.after is no text")
    return Page(body, items, after or None, total if isinstance(total, int) else None)


class VariantPaginator(BasePaginator):
    """Asks for a single page once per variant, each with its own query parameters.

    The first variant's parameters are in the request already.
    """

    def __init__(self, variants: Sequence[Mapping[str, str]]):
        super().__init__()
        self._variants = list(variants)
        self._current = 0

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        self._current += 1
        self._has_next_page = self._current < len(self._variants)

    def update_request(self, request: Request) -> None:
        if self._has_next_page:
            for name in self._variants[self._current - 1]:
                request.params.pop(name, None)
            request.params.update(self._variants[self._current])

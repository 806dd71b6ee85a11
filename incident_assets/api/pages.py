"""What a page is: reading one, refusing what only looks like one, and walking variants.

A page is trusted only if it is whole (paging that cannot lie): its list is there, every item has
an id, and a paginated endpoint says what comes next. Requests and retries are the transport's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests import Request, Response

from incident_assets.api.endpoints import Endpoint
from incident_assets.api.exact_json import is_storable, parse_json
from incident_assets.api.rows import Row, build_row_type, find_extra


class BadPage(Exception):
    """A response that is no page; `retryable` says whether asking again may help."""

    def __init__(self, message: str, retryable: bool = True):
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True)
class Page:
    """The items of one response, as `tables` takes them, with their ids and its size in bytes.

    `after` is the cursor of the next page, if any, `total` the announced number of rows.
    """

    items: Sequence[Any]
    ids: Sequence[str]
    size: int
    after: str | None
    total: int | None


class PageReader:
    """Reads the pages of one resource, and learns from them which unknown fields they have."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._extra: list[str] = []
        self._decoder = self._build_decoder()

    def _build_decoder(self) -> "msgspec.json.Decoder[Any]":
        row: Any = build_row_type(self._endpoint, self._extra)
        page = msgspec.defstruct(
            "page",
            [("items", list[row]), ("pagination_meta", Any, None)],
            rename={"items": self._endpoint.name},
        )
        return msgspec.json.Decoder(page)

    def read(self, response: Response) -> Page:
        """Return the page in a successful response. Raises BadPage if it is not a whole one."""
        body = response.content
        try:
            items, meta = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            items, meta = self._parse(response)
        known = bool(items) and isinstance(items[0], Row)
        ids = [item.id for item in items] if known else [_read_id(item) for item in items]
        if not (set(map(type, ids)) <= {str} and all(ids) and "".join(ids).isprintable()):
            raise BadPage("an item of the page has no id", retryable=False)
        if not known:
            self._learn(items)
        if self._endpoint.page_size is None:
            return Page(items, ids, len(body), None, None)
        if not isinstance(meta, dict):
            raise BadPage("the page has no pagination_meta, so whether it is the last is unknown")
        after, total = meta.get("after"), meta.get("total_record_count")
        if after is not None and not (isinstance(after, str) and is_storable(after)):
            raise BadPage("the cursor pagination_meta.after is no text")
        total = total if isinstance(total, int) else None
        return Page(items, ids, len(body), after or None, total)

    def _decode(self, body: bytes) -> tuple[Sequence[Any], Any]:
        # What the decoder skips, it does not check: half characters, and bytes that are no UTF-8.
        if b"\\ud" in body or b"\\uD" in body:
            raise msgspec.DecodeError
        if not body.isascii():
            body.decode()
        page = self._decoder.decode(body)
        return page.items, page.pagination_meta

    def _parse(self, response: Response) -> tuple[Sequence[Any], Any]:
        kind = response.headers.get("Content-Type", "").split(";")[0].strip() or "no content type"
        try:
            body = parse_json(response.content)
        except (ValueError, RecursionError):
            raise BadPage(f"the body is no JSON ({kind}, {len(response.content)} bytes)") from None
        if not isinstance(body, dict):
            raise BadPage(f"the body is no JSON object but {type(body).__name__}")
        items = body.get(self._endpoint.name)
        if not isinstance(items, list):
            raise BadPage(f"the page has no list {self._endpoint.name!r}")
        return items, body.get("pagination_meta")

    def _learn(self, items: Sequence[Any]) -> None:
        if unknown := set(find_extra(self._endpoint, items)).difference(self._extra):
            self._extra = sorted(unknown.union(self._extra))
            self._decoder = self._build_decoder()


def _read_id(item: Any) -> Any:
    return item.get("id") if isinstance(item, dict) else None


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

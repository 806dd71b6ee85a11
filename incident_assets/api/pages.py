"""What a page is: judging a response, reading it, refusing what only looks like one, walking on.

A page is trusted only if it is whole (paging that cannot lie): its list is there, every item has
an id, and a paginated endpoint says what comes next. Requests and retries are the session's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests import Request, Response
from requests.exceptions import RequestException

from incident_assets.api.adapter import PageResponse
from incident_assets.api.endpoints import Endpoint, Way
from incident_assets.api.exact_json import is_storable, parse_json
from incident_assets.api.rows import Row, UnknownFields, build_row_type

LONGEST_ID = 1000  # characters
LONG_BODY = 8 << 20  # bytes, beyond which a body is decoded part by part, and twice
PART_ROWS = 2000
BROKEN_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MOST_ROWS = 2**63  # that a total can announce and the log can hold


class BadPage(Exception):
    """A response that is no whole page."""


class RetryablePage(BadPage):
    """A page that may be whole when it is asked for again."""


class NoPage(RetryablePage):
    """A response without the list that was asked for."""


class IgnoredFilter(BadPage):
    """A page with rows that were not asked for."""


class Redirected(RequestException):
    """The API answered with a redirect; it is not followed, so the key goes nowhere else."""


def refuse_redirect(response: Response) -> None:
    """Raise Redirected if the answer is a redirect."""
    if response.is_redirect:
        target = response.headers["Location"]
        raise Redirected(f"{response.status_code}: redirected to {target}", response=response)


class Part(NamedTuple):
    """Some items of a page, all as `rows` takes them: Rows or parsed; and their size in bytes."""

    items: Sequence[Any]
    size: int


@dataclass(frozen=True)
class Page:
    """What one response has: its items in parts, decoded each time they are asked for if long.

    `listed` is what the list holds, as it was read. `ids` are those of a page that may go on,
    `after` is the cursor of the next one, if any, and `total` the announced number of rows.
    """

    parts: Iterable[Part]
    listed: Sequence[Any]
    ids: Sequence[str] = ()
    after: str | None = None
    total: int | None = None


@dataclass(frozen=True)
class _LongList:
    """The items of a long body as the texts they came as, decoded a part at a time."""

    texts: Sequence[msgspec.Raw]
    decode: Callable[[bytes], Sequence[Any]]

    def __iter__(self) -> Iterator[Part]:
        for start in range(0, len(self.texts), PART_ROWS):
            body = b"[" + b",".join(self.texts[start : start + PART_ROWS]) + b"]"
            yield Part(self.decode(body), len(body))


class PageReader:
    """Judges the answers for one resource, and learns from them which unknown fields they have.

    Which of those become columns, `unknown` says.
    """

    def __init__(self, endpoint: Endpoint, way: Way, unknown: UnknownFields | None = None):
        self._endpoint = endpoint
        self._paginated = way.page_size is not None
        self._unknown = unknown or UnknownFields(endpoint)
        self._extra: list[str] = []
        self._list_decoder = self._build_decoder(msgspec.Raw)
        self._learn_rows()

    def judge(self, response: Response) -> Page:
        """Return the page in a response, and note it there, where dlt and its rows are read from.

        The one place where an answer is judged; dlt's client asks again where what it raises may
        pass. Raises HTTPError for its status, Redirected, and BadPage if it is no whole page.
        """
        refuse_redirect(response)
        response.raise_for_status()
        page = self.read(response)
        if isinstance(response, PageResponse):
            cursor = {"after": page.after} if page.after else {}
            response.page = page
            response.decoded = {self._endpoint.name: page.listed, "pagination_meta": cursor}
        return page

    def refuse_others(self, page: Page, field: str, wanted: str) -> None:
        """Raise IgnoredFilter if a row has something else in a text column than was asked for."""
        number = [column.name for column in self._endpoint.columns].index(field) - 1
        for item in (item for part in page.parts for item in part.items):
            known = isinstance(item, Row)
            found = getattr(item, f"field_{number}") if known else item.get(field)
            if isinstance(found, str) and found != wanted:
                raise IgnoredFilter(f"the API ignores {field}")

    def _learn_rows(self) -> None:
        """Have rows be decoded with the fields that are known now."""
        row: Any = build_row_type(self._endpoint, self._extra)
        self._page_decoder = self._build_decoder(row)
        self._rows_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[row])

    def _build_decoder(self, item: Any) -> "msgspec.json.Decoder[Any]":
        page = msgspec.defstruct(
            "page",
            [("items", list[item]), ("pagination_meta", Any, None)],
            rename={"items": self._endpoint.name},
        )
        return msgspec.json.Decoder(page)

    def read(self, response: Response) -> Page:
        """Return the page in a successful response. Raises BadPage if it is not a whole one."""
        body = response.content
        parts: Iterable[Part]
        try:
            if len(body) > LONG_BODY:
                page = self._list_decoder.decode(body)
                parts = _LongList(page.items, self._decode_part)
            else:
                page = _decode(self._page_decoder, body)
                parts = (Part(page.items, len(body)),)
            items, meta = page.items, page.pagination_meta
        except BROKEN_JSON:
            items, meta = self._parse(response)
            parts = (Part(items, len(body)),)
        ids = [identifier for part in parts for identifier in self._read_ids(part.items)]
        if not self._paginated:
            if isinstance(meta, dict) and meta.get("after"):
                raise BadPage(
                    "the API has more pages (pagination_meta.after) of what it is asked for as one"
                )
            return Page(parts, items)
        if not isinstance(meta, dict):
            raise RetryablePage(
                "the page has no pagination_meta, so whether it is the last is unknown"
            )
        after, total = meta.get("after"), meta.get("total_record_count")
        if after is not None and not (isinstance(after, str) and is_storable(after)):
            raise RetryablePage("the cursor pagination_meta.after is no text")
        total = total if type(total) is int and 0 <= total < MOST_ROWS else None
        return Page(parts, items, ids, after or None, total)

    def _read_ids(self, items: Sequence[Any]) -> Sequence[str]:
        """Return the ids of items, each of which has one; learn the fields of those not known."""
        known = bool(items) and isinstance(items[0], Row)
        ids = [item.id for item in items] if known else [_read_id(item) for item in items]
        if not (set(map(type, ids)) <= {str} and all(ids) and "".join(ids).isprintable()):
            raise BadPage("an item of the page has no id")
        if max(map(len, ids), default=0) > LONGEST_ID:
            raise BadPage(f"an id on the page has more than {LONGEST_ID:,} characters")
        if not known:
            self._learn(items)
        return ids

    def _decode_part(self, body: bytes) -> Sequence[Any]:
        try:
            return _decode(self._rows_decoder, body)
        except BROKEN_JSON:
            pass
        try:
            return parse_json(body)
        except (ValueError, RecursionError):
            raise NoPage("an item of the page is no JSON") from None

    def _parse(self, response: Response) -> tuple[Sequence[Any], Any]:
        kind = response.headers.get("Content-Type", "").split(";")[0].strip() or "no content type"
        try:
            body = parse_json(response.content)
        except (ValueError, RecursionError):
            raise NoPage(f"the body is no JSON ({kind}, {len(response.content)} bytes)") from None
        if not isinstance(body, dict):
            raise NoPage(f"the body is no JSON object but {type(body).__name__}")
        items = body.get(self._endpoint.name)
        if not isinstance(items, list):
            raise NoPage(f"the page has no list {self._endpoint.name!r}")
        return items, body.get("pagination_meta")

    def _learn(self, items: Sequence[Any]) -> None:
        if unknown := set(self._unknown.admit(items)).difference(self._extra):
            self._extra = sorted(unknown.union(self._extra))
            self._learn_rows()


def _decode(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    if not body.isascii():
        body.decode()  # of what the decoder skips, it does not check whether it is UTF-8
    return decoder.decode(body)


def _read_id(item: Any) -> Any:
    return item.get("id") if isinstance(item, dict) else None


class VariantPaginator(BasePaginator):
    """Walks one variant after the other, each to its last page.

    The first variant's parameters are in the request already.
    """

    def __init__(self, variants: Sequence[Mapping[str, str]]):
        super().__init__()
        self._variants = list(variants)
        self._current = 0
        self._after: str | None = None

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Go on in the variant while it has a cursor, then to the next variant."""
        self._after = response.json()["pagination_meta"].get("after")
        self._current += self._after is None
        self._has_next_page = self._current < len(self._variants)

    def update_request(self, request: Request) -> None:
        """Set the parameters of the next page."""
        for name in ("after", *(name for variant in self._variants for name in variant)):
            request.params.pop(name, None)
        if self._has_next_page:
            cursor = {"after": self._after} if self._after else {}
            request.params.update({**self._variants[self._current], **cursor})

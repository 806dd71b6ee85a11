"""People who are forgotten: what stands in their place in cells of JSON.

What else goes with them, and when, is the sync's.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from incident_assets.api.endpoints import Column, Endpoint
from incident_assets.api.exact_json import dump_ascii, dump_json, parse_json
from incident_assets.api.personal import Mask


class Erasure(Mask):
    """What stands in the place of some people, by their ids: the id alone, wherever they are."""

    def __init__(self, ids: Collection[str]):
        super().__init__("keep")
        self._ids = frozenset(ids)

    def touches(self, endpoint: Endpoint, column: Column) -> bool:
        """Whether a column may hold people."""
        return column.type == "json"

    def mask_cells(
        self, endpoint: Endpoint, column: Column, cells: Sequence[bytes | str | None]
    ) -> list[bytes | str | None]:
        """Return the cells of a JSON column, without what they say of these people."""
        return [
            dump_json(self._erase(parse_json(cell.encode())))
            if isinstance(cell, str) and self._names(cell)
            else cell
            for cell in cells
        ]

    def _names(self, text: str) -> bool:
        return any(identifier in text for identifier in self._ids)

    def _erase(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._erase(item) for item in value]
        if isinstance(value, str) and value[:1] in ("{", "[") and self._names(value):
            # What UTF-8 cannot hold stands in `_rescued` as JSON of its own.
            with suppress(ValueError, RecursionError):
                return dump_ascii(self._erase(parse_json(value.encode())))
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("id"), str) and value["id"] in self._ids:
            return {"id": value["id"]}
        return {name: self._erase(item) for name, item in value.items()}

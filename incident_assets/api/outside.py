"""Rows from outside: list endpoints that somebody adds to the table, without touching it.

What a row has to be to stand beside the package's own is here; the package's own are in
`endpoints`, where a test holds each to the contract.
"""

import re
from collections.abc import Iterable, Iterator

from incident_assets.api.endpoints import CADENCES, ENDPOINTS, ID, LOADER_COLUMNS, Endpoint
from incident_assets.api.rows import is_column_name

# As dlt joins it to the address; parameters and page size are fields of their own.
PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)+")


class BadEndpoint(ValueError):
    """A row that cannot stand in the table; the text names it and says why."""


def extend_table(own: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the package's rows and, after them, these.

    Raises BadEndpoint where a name or path is one of the package's or there twice, and where a row
    could not become a table.
    """
    rows: list[Endpoint] = [*ENDPOINTS]
    for endpoint in own:
        if fault := next(_find_faults(endpoint, rows), None):
            raise BadEndpoint(f"endpoint {endpoint.name!r} cannot be added: {fault}")
        rows.append(endpoint)
    return tuple(rows)


def _find_faults(endpoint: Endpoint, others: Iterable[Endpoint]) -> Iterator[str]:
    taken = {way.path: other.name for other in others for way in other.ways}
    columns = [column.name for column in endpoint.columns]
    known = {*columns, *(column.name for column in LOADER_COLUMNS)}
    if endpoint.name in {other.name for other in others}:
        yield "there is one of that name"
    if not is_column_name(endpoint.name):
        yield "its name is no table's: small letters, digits and single underscores"
    if endpoint.group not in CADENCES:
        yield f"its group {endpoint.group!r} is none of {', '.join(CADENCES)}"
    if not endpoint.ways:
        yield "it has no way to be asked for"
    for way in endpoint.ways:
        if way.path in taken:
            yield f"{way.path} is the path of {taken[way.path]!r}"
        if not PATH.fullmatch(way.path):
            yield f"{way.path!r} is no path such as /v2/things"
    if endpoint.columns[:1] != (ID,):
        yield "its first column has to be ID"
    if len(known) < len(columns) + len(LOADER_COLUMNS):
        yield "a column is there twice, or is one of the loader's"
    for name in columns:
        if not is_column_name(name):
            yield f"{name!r} is no column: small letters, digits and single underscores"
    for path in (*endpoint.optional, *endpoint.references, *endpoint.enums):
        if re.split(r"[.\[]", path)[0] not in columns:
            yield f"the path {path!r} begins with none of its columns"

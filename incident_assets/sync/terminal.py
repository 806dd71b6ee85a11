"""Outcomes and settings as lines for a terminal: plain text tables, nothing decided here."""

from collections.abc import Sequence

from incident_assets.sync.log import Outcome


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns, numbers to the right."""
    cells = [list(header), *([_format_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [bool(rows) and isinstance(rows[0][i], int | float) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def _format_cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "".join(c if c.isprintable() else " " for c in str(value))


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return one line per resource: how it was listed, rows, requests, seconds, failure."""
    rows = [
        (
            x.resource,
            x.listing,
            x.rows,
            x.changed,
            x.deleted,
            x.table_rows,
            x.requests,
            x.seconds,
            x.failure or "",
        )
        for x in outcomes
    ]
    header = ("resource", "listing", "rows", "changed", "deleted", "in table", "requests")
    return format_table((*header, "seconds", ""), rows)

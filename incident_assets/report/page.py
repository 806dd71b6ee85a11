"""The HTML page: one file that needs nothing else, in which every text is escaped.

It forbids itself scripts and requests. How it is laid out stands in `page.html`, how it looks in
`page.css`; what it says is decided in `sections`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from incident_assets.report.headlines import Tile
from incident_assets.report.render import PALETTE
from incident_assets.report.sections import Section
from incident_assets.report.words import cut
from incident_assets.settings import REPORT_TITLE


def may_replace(path: Path) -> bool:
    """Whether nothing, or a page that `write_page` made, is there. Raises OSError."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return True
    with path.open("rb") as page:
        return f"<title>{REPORT_TITLE}</title>".encode() in page.read(2000)


def write_page(
    subtitle: str,
    period: str,
    tiles: Sequence[Tile],
    sections: Sequence[tuple[Section, Mapping[str, str]]],
) -> str:
    """Return the page; each section comes with its plots by class, SVG that is taken as it is."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cut"] = cut
    return environment.get_template("page.html").render(
        title=REPORT_TITLE,
        palette=PALETTE,
        subtitle=subtitle,
        period=period,
        tiles=tiles,
        sections=sections,
    )

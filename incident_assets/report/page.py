"""The HTML page: one file that needs nothing else, in which every text is escaped.

It forbids itself scripts and requests. What it says is decided in `sections`.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from incident_assets.report.render import PALETTE
from incident_assets.report.sections import Section, Tile
from incident_assets.report.words import cut

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LONGEST = 120  # columns of a text in a table
TITLE = "Incident reliability report"


def write_page(
    subtitle: str, period: str, tiles: Sequence[Tile], sections: Sequence[tuple[Section, str]]
) -> str:
    """Return the page; each section comes with its plots as SVG, which are taken as they are."""
    colours = "".join(f"--{name}:{colour};" for name, colour in PALETTE.items())
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    body = "\n".join(_write_section(section, plots) for section, plots in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{TITLE}</title>
<style>:root{{{colours}}}
{style}</style>
</head>
<body>
<main>
<header>
<h1>{TITLE}</h1>
<p>{escape(subtitle)}</p>
</header>
<section id="headlines">
<h2>Last four weeks</h2>
<p class="definition">{escape(period)}</p>
<dl>{"".join(_write_tile(tile) for tile in tiles)}</dl>
</section>
{body}
</main>
</body>
</html>
"""


def _write_tile(tile: Tile) -> str:
    texts = [escape(text) for text in (tile.label, tile.value, tile.note)]
    return "<div><dt>{}</dt><dd><strong>{}</strong><span>{}</span></dd></div>".format(*texts)


def _write_section(section: Section, plots: str) -> str:
    table = _write_table(section.title, section.header, section.rows) if section.rows else ""
    return f"""<section id="{section.key}">
<h2>{escape(section.title)}</h2>
<p>{escape(section.finding)}</p>
{plots}
<p class="definition">{escape(section.definition)}</p>
{table}
</section>"""


def _write_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col"><bdi>{_write_cell(cell)}</bdi></th>' for cell in header)
    lines = "\n".join(
        f'<tr><th scope="row"><bdi>{_write_cell(first)}</bdi></th>'
        + "".join(f"<td>{_write_cell(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"""<details>
<summary>The figures as a table</summary>
<div class="wide" tabindex="0" role="region" aria-label="{escape(title)}">
<table><thead><tr>{head}</tr></thead><tbody>
{lines}
</tbody></table>
</div>
</details>"""


def _write_cell(text: str) -> str:
    return escape(cut(text, LONGEST))

"""Matplotlib, tamed: imported late and without a trace, one style, figures to SVG and PNG.

The one module that imports matplotlib; what is drawn is decided in `figures`.
"""

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 72  # a unit is a pixel; wider than 880 would not fit the UI's dialog
PNG_COLOURS = 48
# The first comes with matplotlib; the others draw, where installed, the letters that it lacks.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans Devanagari", "Noto Sans Thai")
# Each colour once: in SVG it becomes a CSS variable, which page.css sets for light and dark.
PALETTE: Mapping[str, str] = {
    "ink": "#1c2430",
    "muted": "#5b6675",
    "grid": "#e3e7ec",
    "paper": "#ffffff",
    "worst-1": "#7a0c2e",
    "worst-2": "#c6352b",
    "worst-3": "#ee7d2f",
    "worst-4": "#f8b65a",
    "worst-5": "#f3d58c",
    "unranked": "#b9c1cb",
    "middle": "#1f5fa8",
    "tail": "#6fa3d8",
    "working": "#8fb8de",
    "late": "#e0992e",
    "sleeping": "#4b2a7b",
    "age-1": "#cfe3df",
    "age-2": "#8fc1b9",
    "age-3": "#3f8f87",
    "age-4": "#0f5257",
    "alarm": "#c2185b",
}
STYLE: Mapping[str, Any] = {
    # Texts of the API are texts, never formulas.
    "text.parse_math": False,
    "text.color": PALETTE["ink"],
    "font.size": 12,
    "axes.facecolor": "none",
    "axes.edgecolor": PALETTE["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}


@contextmanager
def prepare_matplotlib() -> Iterator[None]:
    """Import matplotlib and draw in our style until the block ends; HOME is left alone."""
    with _keep_home_clean(), warnings.catch_warnings():
        # A letter that no font has is drawn as a box in the PNG; a browser has its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        import matplotlib.style
        from matplotlib.backends import backend_agg, backend_svg  # noqa: F401
        from matplotlib.font_manager import fontManager

        installed = {font.name for font in fontManager.ttflist}
        fonts = [font for font in FONTS if font in installed]
        with matplotlib.style.context(["default", {**STYLE, "font.family": fonts}]):
            yield


@contextmanager
def _keep_home_clean() -> Iterator[None]:
    # It makes a folder for settings and its list of fonts as soon as it is imported.
    if os.environ.get("MPLCONFIGDIR"):
        yield
        return
    with TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


def make_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size; a unit is a CSS pixel, and so is a unit of text size."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), facecolor="none")


def draw_svg(figure: "Figure", key: str, label: str) -> str:
    """Return the figure as an `<svg>` element to put into HTML: scalable, with texts as texts.

    `key` keeps its ids apart from those of other figures on the page; `label` is read aloud.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    used = set(re.findall(r"#(\w+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        for child in list(element):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                element.remove(child)
        element.tag = element.tag.rpartition("}")[2]
        given = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(_tidy(given, key, used))
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    size = f"{width.removesuffix('pt')} {height.removesuffix('pt')}"
    root.attrib = {"viewBox": f"0 0 {size}", "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(attributes: dict[str, str], key: str, used: set[str]) -> dict[str, str]:
    tidy = {}
    for name, value in attributes.items():
        if name == "id":
            if value not in used:
                continue
            value = f"{key}-{value}"
        elif name == "d":
            value = re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.1f}", value)
        elif name == "style":
            value = re.sub(r"#[0-9a-f]{6}\b", _name_colour, value)
        else:
            value = re.sub(r"#(?=\w)", f"#{key}-", value)
        tidy[name] = value
    return tidy


def _name_colour(match: "re.Match[str]") -> str:
    names = [name for name, colour in PALETTE.items() if colour == match[0]]
    return f"var(--{names[0]})" if names else match[0]


def draw_png(figure: "Figure") -> bytes:
    """Return the figure as a small PNG on white, of few colours."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=PNG_DPI, facecolor=PALETTE["paper"])
    Image.open(drawn).convert("RGB").quantize(PNG_COLOURS).save(small, "png", optimize=True)
    return small.getvalue()

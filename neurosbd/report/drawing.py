"""Figures as files: PNG for slides, SVG for print, and whichever suits the page."""

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosbd.errors import UsageError
from neurosbd.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
MOST_SVG = 300_000  # bytes; beyond that a picture is sharp enough and far lighter


@dataclass(frozen=True)
class Drawing:
    """A figure, drawn: both files, and its width in inches."""

    png: bytes
    svg: bytes
    width: float

    @property
    def embedded(self) -> str:
        """As a data URI: SVG where it is light, else PNG. Within an <img> nothing in it can run or be loaded."""
        if len(self.svg) <= MOST_SVG:
            return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"
        return embed_png(self.png)


def embed_png(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def draw(figure: object) -> Drawing:
    """Draw a matplotlib Figure; the same figure gives the same bytes.

    Raises:
        TypeError: if it is none.
    """
    import sys

    import matplotlib
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise TypeError(f"figure(result) returned {type(figure).__name__}; legal is a matplotlib Figure")
    _write_out(figure)
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "neurosbd", "svg.fonttype": "path"}):
        figure.savefig(png, format="png", dpi=DPI)
        figure.savefig(svg, format="svg", metadata={"Date": None})
    if "matplotlib.pyplot" in sys.modules:  # a user's figure may be kept alive there
        sys.modules["matplotlib.pyplot"].close(figure)
    return Drawing(png.getvalue(), svg.getvalue(), float(figure.get_size_inches()[0]))


def _write_out(figure: "Figure") -> None:
    """Names in a figure as `printable`; one with dollar signs that are no formula of matplotlib is taken as it is."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    for axis in figure.findobj(Axis):
        for formatter in (axis.get_major_formatter(), axis.get_minor_formatter()):
            labels = formatter.format_ticks  # which are made when the figure is drawn
            formatter.format_ticks = lambda values, labels=labels: [_legible(label) for label in labels(values)]
    for text in figure.findobj(Text):
        text.set_text(_legible(text.get_text()))


def _legible(text: str) -> str:
    from matplotlib.mathtext import MathTextParser

    text = printable(text)
    if text.count("$") - text.count(r"\$") < 2:
        return text
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def check_installed() -> None:
    """Refuse at once where pages cannot be made.

    Raises:
        UsageError: if matplotlib, jinja2 or scipy is missing; says how to install them.
    """
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "jinja2", "scipy") if find_spec(name) is None]
    if missing:
        raise UsageError(f"reports need {' and '.join(missing)}: pip install 'neurosbd[report]'")

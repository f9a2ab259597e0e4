"""A run as a notebook shows it: a line of text, a table, and its learning curve as a picture of a few lines."""

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurosbd.files.parsing import Json
from neurosbd.measures import MEASURES, shown, title, unmeasured
from neurosbd.text import html_table, one_line

_WIDTH, _HEIGHT, _MARGIN = 420, 180, 36  # pixels
_COLOURS = {"train": "#888888", "validation": "#c77f1a", "test": "#1f5fa8"}
_THREE = "test blue, train grey, validation orange"


def line(path: Path, config: Mapping[str, object], metrics: Sequence[Mapping[str, object]], status: str) -> str:
    """What ran, where, and how far it came."""
    asked = _asked(config)
    rule = f", rule {asked['rule']}" if "rule" in asked else ""
    said = "".join(f"; {sentence}" for sentence in _unmeasured(config))
    reached = f"{status}{_reached(metrics)}{said}"
    return one_line(f"Run({str(path)!r}: {asked['model']}{rule}, seed {asked['seed']}; {reached})")


def card(path: Path, config: Mapping[str, object], metrics: Sequence[Mapping[str, object]], status: str) -> str:
    """A table and the learning curve as HTML; all text is escaped."""
    rows = [*_asked(config).items(), ("status", status), ("epochs", len(metrics))]
    rows += [(f"test {title(name)}", shown(name, value)) for name, value in _judged(metrics)]
    rows += [("judged", sentence) for sentence in _unmeasured(config)]
    return html_table(str(path), rows) + _curve(metrics)


def _asked(config: Mapping[str, Json]) -> dict[str, str]:
    """Of the definition, whatever version wrote it."""
    definition = config.get("definition", {})
    parts = {key: definition.get(key) for key in ("rule", "loss", "data", "task", "protocol")}
    kinds = {
        key: str(part.get("kind", part.get("name", "?"))) for key, part in parts.items() if isinstance(part, Mapping)
    }
    free = definition.get("simulation")
    if isinstance(free, Mapping):
        kinds = {name: kind for name, kind in kinds.items() if name == "rule"}
        kinds["duration"] = f"{free.get('duration', '?')} s"
    if "task" in kinds or "protocol" in kinds:
        kinds.pop("data", None)
    return {"model": str(definition.get("name", "?")), **kinds, "seed": str(definition.get("seed", "?"))}


def _judged(metrics: Sequence[Mapping[str, object]]) -> list[tuple[str, float]]:
    """Measures of the last epoch on the test split."""
    last = metrics[-1] if metrics else {}
    found = [(name, last.get(f"test_{name}")) for name in MEASURES]
    return [(name, value) for name, value in found if isinstance(value, int | float)]


def _unmeasured(config: Mapping[str, object]) -> list[str]:
    """Why outputs have no loss and no accuracy, where nothing teaches them."""
    there = config.get("unjudged")
    return unmeasured({str(k): str(v) for k, v in there.items()}) if isinstance(there, Mapping) else []


def _reached(metrics: Sequence[Mapping[str, object]]) -> str:
    if not metrics:
        return ""
    judged = "".join(f", test {title(name)} {shown(name, value)}" for name, value in _judged(metrics)[:1])
    return f", {len(metrics)} epoch{'s' if len(metrics) > 1 else ''}{judged}"


def _curve(metrics: Sequence[Mapping[str, Json]]) -> str:
    """The loss of both splits, or the first measure if there is one, over the epochs; nothing before the second."""
    key = next((name for name, _ in _judged(metrics)), "loss")
    points = {on: [(m["epoch"], m.get(f"{on}_{key}")) for m in metrics] for on in _COLOURS}
    known = {
        on: [(x, y) for x, y in ps if isinstance(y, int | float) and math.isfinite(y)] for on, ps in points.items()
    }
    values = [y for ps in known.values() for _, y in ps]
    if len(metrics) < 2 or not values:
        return ""
    low, high = min(values), max(values)
    first, last = metrics[0]["epoch"], metrics[-1]["epoch"]

    def place(x: float, y: float) -> str:
        across = _MARGIN + (x - first) / (last - first) * (_WIDTH - 2 * _MARGIN)
        down = _HEIGHT - _MARGIN - (y - low) / ((high - low) or 1.0) * (_HEIGHT - 2 * _MARGIN)
        return f"{across:.1f},{down:.1f}"

    drawn = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[on]}" stroke-width="1.5" points="'
        f'{" ".join(place(x, y) for x, y in ps)}"><title>{on}</title></polyline>'
        for on, ps in known.items()
        if ps or on != "validation"
    )
    name = "loss" if key == "loss" else title(key)
    ends = [(_MARGIN, _HEIGHT - 10, f"epoch {first}"), (_WIDTH - 2 * _MARGIN, _HEIGHT - 10, f"{last}")]
    ends += [(2, _MARGIN - 8, f"{name}: {high:.4g}"), (2, _HEIGHT - _MARGIN + 4, f"{low:.4g}")]
    colours, width = ("test blue, train grey", 3) if not known["validation"] else (_THREE, 7)
    ends += [(_WIDTH - width * _MARGIN, _MARGIN - 8, colours)]
    said = "".join(f'<text x="{x}" y="{y}" font-size="11">{html.escape(text)}</text>' for x, y, text in ends)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">{drawn}{said}</svg>'

"""The comparison of runs: rules and seeds side by side, as a table, a figure and a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from neurosbd.errors import UsageError
from neurosbd.files.writing import legal_path
from neurosbd.report.checked_run import opened, run_directories
from neurosbd.report.comparison_figure import KEYS, figure, is_percent
from neurosbd.report.drawing import check_installed, draw
from neurosbd.report.grouping import Group, concerns, differing, groups, label
from neurosbd.report.page import INDEX, check_folder, install, render
from neurosbd.report.quantities import Table, plain
from neurosbd.report.run_summary import dynamics, is_experiment, number, setting
from neurosbd.report.statistics import LEVEL, Estimate, estimate
from neurosbd.runs.run import Run
from neurosbd.text import csv_table, html_table, one_line

_INCH = 88  # pixels of the page per inch of the figure
_EMPTY = "test accuracy"  # what the axes of a comparison without any finished run are called


@dataclass(frozen=True)
class Row:
    """One group: how it is called, what it differs in, its runs, and an estimate per quantity."""

    label: str
    group: Group
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found and wrote.

    path: the page, index.html; comparison.csv, comparison.json and the figure lie beside it.
    rows: one per group.
    keys: settings that tell groups of one model and rule apart.
    warnings: what makes the comparison unfair or uncertain.
    """

    path: Path
    rows: tuple[Row, ...]
    keys: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what was estimated; how active populations are and how much weights have changed only where
        nothing else is known of any group but its seconds."""
        names = dict.fromkeys(name for row in self.rows for name in row.estimates)
        lasting = {name for row in self.rows for run in row.group.finished for name in _dynamics(run)}
        judged = names.keys() - lasting - {"seconds"}
        told = [name for name in names if name != "seconds" and (not judged or name not in lasting)]
        return (*told, *(name for name in names if name == "seconds"))

    @property
    def table(self) -> str:
        """For a terminal."""
        table = overview(self)
        lines = [tuple(map(one_line, line)) for line in (table.head, *(tuple(map(number, row)) for row in table.rows))]
        widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
        return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        table = overview(self)
        said = "".join(f"<p>{escape(one_line(warning))}</p>" for warning in self.warnings)
        return html_table(str(self.path), (tuple(map(number, row)) for row in table.rows), table.head) + said


def compare(paths: Sequence[str | Path], out: str | Path = "compare") -> Comparison:
    """Compare runs: groups that agree in everything but the seed, a row each.

    Values are those of the last epoch; nothing is selected on the test set. Only finished runs count.

    Args:
        paths: directories of runs, or folders of those of several seeds.
        out: folder to write to.

    Returns:
        The comparison, with n, mean, standard deviation and 95 % interval of every quantity.

    Raises:
        UsageError: if one of them is no run, or matplotlib, scipy or jinja2 is missing. Nothing has been written then.
    """
    check_installed()
    if not paths:
        raise UsageError("there is nothing to compare; give the directories of runs")
    named = [place for path in paths for place in run_directories(path)]
    places = dict.fromkeys(place.resolve() for place in named)
    runs = [opened(path) for path in places]
    found = groups(runs)
    apart, rest = differing(found)
    warnings = concerns(found)
    if len(places) < len(named):
        warnings.append("a run was given more than once; it is counted once")
    models, rules = ({getattr(group, name) for group in found} for name in ("model", "rule"))
    rows = tuple(Row(label(group, apart, len(models) > 1, len(rules) > 1), group, _estimates(group)) for group in found)
    comparison = Comparison(Path(out) / INDEX, rows, tuple(apart), tuple(warnings))
    check_folder(legal_path(out))
    install(Path(out), _files(comparison, rest))
    return comparison


def _estimates(group: Group) -> dict[str, Estimate]:
    values = [_values(run) for run in group.finished]
    names = dict.fromkeys(name for one in values for name in one)
    return {name: estimate([one[name] for one in values if name in one]) for name in names}


def _values(run: Run) -> dict[str, float]:
    """Figures of a run: of its last epoch, its measures, and its seconds; those that are numbers."""
    last = run.metrics[-1] if run.metrics else {}
    found: dict[str, object] = {name: last.get(key) for name, key in KEYS.items()}
    measures = run.result.get("measures")
    if isinstance(measures, Mapping):
        found |= {str(name).replace("_", " "): value for name, value in measures.items()}
    found |= _dynamics(run)
    found["seconds"] = run.result.get("seconds")
    return {name: float(v) for name, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _dynamics(run: Run) -> dict[str, float]:
    """Rates, activities and changes of weights in the last epoch of a training that nothing judges."""
    return {} if is_experiment(run) else dynamics(run.metrics[-1] if run.metrics else {})


def overview(comparison: Comparison) -> Table:
    """A row per group: model, rule, differing settings, n, and every quantity as mean ± std [interval]."""
    head = ("model", "rule", *comparison.keys, "n", *comparison.quantities)
    rows = []
    for row in comparison.rows:
        known = [row.group.settings.get(key, "–") for key in comparison.keys]
        cells = [_cell(name, row.estimates.get(name)) for name in comparison.quantities]
        rows.append((row.group.model, row.group.rule, *known, len(row.group.finished), *cells))
    return Table(head, tuple(rows))


def _cell(name: str, found: Estimate | None) -> str:
    """mean ± std [low, high]; shares in percent."""
    if found is None or found.mean is None:
        return "–"
    percent = is_percent(name)

    def shown(value: float) -> str:
        return f"{100 * value:.2f}" if percent else f"{value:.4g}"

    deviation = None if found.std is None else shown(found.std) if percent else f"{found.std:.2g}"
    spread = f" ± {deviation}" if deviation else ""
    interval = f" [{shown(found.low)}, {shown(found.high)}]" if found.low is not None and found.high is not None else ""
    return f"{shown(found.mean)}{spread}{interval}{' %' if percent else ''}"


def remarks(comparison: Comparison) -> list[str]:
    """How the intervals were made, and where there is none."""
    found: dict[str, list[str]] = {}
    for row in comparison.rows:
        told = {found.remark for name, found in row.estimates.items() if name != "seconds"}
        for remark in sorted(told - {"BCa"}):
            found.setdefault(remark, []).append(row.label)
    return [f"{remark} ({'; '.join(labels)})" for remark, labels in found.items()]


def _files(comparison: Comparison, rest: Sequence[str]) -> dict[str, bytes]:
    rows = [(row.label, row.group, row.estimates) for row in comparison.rows]
    drawing = draw(figure(rows, next((name for name in comparison.quantities if name != "seconds"), _EMPTY)))
    page = render(
        "comparison.html",
        overview=overview(comparison),
        warnings=comparison.warnings,
        remarks=remarks(comparison),
        level=f"{LEVEL:.0%}",
        image=drawing.embedded,
        width=round(drawing.width * _INCH),
        runs=_runs(comparison),
        rest=Table(
            ("setting", *(row.label for row in comparison.rows)),
            tuple((key, *(row.group.settings.get(key, "–") for row in comparison.rows)) for key in rest),
        ),
    )
    return {
        INDEX: page.encode(),
        "comparison.csv": _csv(comparison).encode(),
        "comparison.json": _json(comparison).encode(),
        "figure.png": drawing.png,
        "figure.svg": drawing.svg,
    }


def _runs(comparison: Comparison) -> Table:
    """Every run by itself."""
    names = comparison.quantities
    rows = [
        (
            row.label,
            setting(run, "seed", "?"),
            run.result.get("status", "?"),
            *(100 * value if is_percent(name) and value is not None else value for name, value in
              ((name, _values(run).get(name)) for name in names)),
            str(run.path.name),
        )
        for row in comparison.rows
        for run in row.group.runs
    ]  # fmt: skip
    head = ("group", "seed", "status", *(f"{n} (%)" if is_percent(n) else n for n in names), "run")
    return Table(head, tuple(rows))


def _csv(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        known = [row.group.settings.get(key, "") for key in comparison.keys]
        for name, found in row.estimates.items():
            numbers = (found.n, found.mean, found.std, found.low, found.high)
            rows.append((row.group.model, row.group.rule, *known, name, *numbers, found.remark))
    return csv_table(
        ("model", "rule", *comparison.keys, "quantity", "n", "mean", "std", "low", "high", "interval"), rows
    )


def _json(comparison: Comparison) -> str:
    content = {
        "level": LEVEL,
        "groups": [
            {
                "label": row.label,
                "model": row.group.model,
                "rule": row.group.rule,
                "settings": {key: row.group.settings.get(key) for key in comparison.keys},
                "runs": [
                    {"path": str(run.path), "seed": setting(run, "seed"), "status": run.result.get("status"),
                     "values": _values(run)}
                    for run in row.group.runs
                ],
                "estimates": {name: asdict(found) for name, found in row.estimates.items()},
            }
            for row in comparison.rows
        ],
        "warnings": comparison.warnings,
    }  # fmt: skip
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"

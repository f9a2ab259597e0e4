"""The report of a run: all analyses that its recording allows, on one page, with every number beside it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosbd.errors import UsageError, recorded_by
from neurosbd.files.parsing import JsonTable
from neurosbd.files.writing import legal_path
from neurosbd.measures import unmeasured
from neurosbd.report import run_summary
from neurosbd.report.analyses import Analysis, Outcome, chosen, run_analysis
from neurosbd.report.checked_run import opened, run_directories, with_trace
from neurosbd.report.drawing import check_installed, embed_png
from neurosbd.report.page import INDEX, check_folder, install, render
from neurosbd.report.quantities import plain, tables, tidy, words
from neurosbd.runs.progress import Reporter, Silent
from neurosbd.runs.run import Run

FIGURES, JSON, CSV = "figures", "metrics.json", "metrics.csv"
_INCH = 100  # pixels of the page per inch of a figure


@dataclass(frozen=True)
class Report:
    """What `analyse` wrote.

    path: the page, index.html; figures/, metrics.json and metrics.csv lie beside it.
    outcomes: one per analysis, shown or not; `outcome.result` is what the analysis returned.
    advice: what is unhealthy and what to try: (who says so, what).
    """

    path: Path
    outcomes: tuple[Outcome, ...]
    advice: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def shown(self) -> tuple[Outcome, ...]:
        """Outcomes with a figure."""
        return tuple(outcome for outcome in self.outcomes if outcome.problem is None)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of analyses with a mistake in them."""
        return tuple(outcome for outcome in self.outcomes if outcome.failed)

    def __repr__(self) -> str:
        missing = len(self.outcomes) - len(self.shown)
        return f"Report({str(self.path)!r}: {len(self.shown)} analyses, {missing} not shown, {len(self.failed)} failed)"

    def __getitem__(self, name: str) -> Outcome:
        return {outcome.name: outcome for outcome in self.outcomes}[name]


def analyse(
    path: str | Path,
    with_: Sequence[str | Path] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Analyse a run and write a page about it.

    Args:
        path: directory of a run, finished or not.
        with_: analyses of your own besides the shipped ones: .py files, see docs/analysis.md.
        out: folder of the page; none: PATH/report. An earlier report there is replaced.
        reporter: told of every analysis; none: silence.

    Returns:
        The report. An analysis whose signal was not recorded, or that fails, is listed on the page; the others are
        not affected.

    Raises:
        UsageError: if `path` holds no run, an analysis of `with_` cannot be loaded, `out` holds someone else's page,
            or matplotlib, scipy or jinja2 is missing. Nothing has been written then.
    """
    check_installed()
    run = with_trace(opened(path))
    analyses = chosen(with_)
    folder = legal_path(out) if out is not None else _beside(Path(path), run)
    check_folder(folder)
    outcomes = tuple(_carried_out(analysis, run, reporter or Silent()) for analysis in analyses)
    advice = _advice(run, outcomes)
    report = Report(folder / INDEX, outcomes, advice)
    stale = _drawn_before(folder) - {outcome.name for outcome in report.shown}
    install(folder, _files(run, report))
    for name in stale:
        for suffix in ("png", "svg"):
            (folder / FIGURES / f"{name}.{suffix}").unlink(missing_ok=True)
    return report


def analyse_all(
    paths: Sequence[str | Path],
    with_: Sequence[str | Path] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> list[Report]:
    """Analyse several runs, each on a page of its own; see `analyse`.

    Args:
        paths: of runs, or of folders with a run for every seed; all are checked before the first is analysed.
        with_: analyses of your own.
        out: of one run the folder of its page; of several a folder that gets one folder per run.
        reporter: told of every analysis and page.
    """
    reporter = reporter or Silent()
    paths = [place for path in paths for place in run_directories(path)]
    for path in paths:
        opened(path)
    reports = []
    for path, folder in zip(paths, _folders(paths, out), strict=True):
        reporter.say(f"{path}:")
        report = analyse(path, with_, folder, reporter)
        failed = f", {len(report.failed)} FAILED" if report.failed else ""
        reporter.say(f"{len(report.shown)} of {len(report.outcomes)} analyses shown{failed}; page: {report.path}")
        reports.append(report)
    return reports


def _folders(paths: Sequence[str | Path], out: str | Path | None) -> list[Path | None]:
    """Where the page of every run goes; none: beside the run."""
    if out is None:
        return [None] * len(paths)
    if len(paths) == 1:
        return [legal_path(out)]
    taken: list[Path | None] = []
    for path in paths:
        name = Path(path).resolve().name
        folder, number = Path(out) / name, 2
        while folder in taken:
            folder, number = Path(out) / f"{name}-{number}", number + 1
        taken.append(folder)
    return taken


def _beside(path: Path, run: Run) -> Path:
    """report/ in the directory of a run; NAME-report/ beside a trace file that stands alone."""
    alone = run.result.get("status") == "unknown"
    return path.with_name(f"{path.name.split('.')[0]}-report") if alone else run.path / "report"


def _carried_out(analysis: Analysis, run: Run, reporter: Reporter) -> Outcome:
    outcome = run_analysis(analysis, run)
    told = "shown" if outcome.problem is None else "FAILED" if outcome.failed else "not shown"
    need = f": needs {recorded_by(outcome.spec)}" if outcome.spec else f": {outcome.problem}" if outcome.problem else ""
    reporter.say(f"{analysis.name}: {told}{need}")
    return outcome


def _advice(run: Run, outcomes: tuple[Outcome, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    said = [("run", tuple(run_summary.complaints(run)))]
    said += [(words(outcome.name), outcome.advice) for outcome in outcomes]
    return tuple((origin, lines) for origin, lines in said if lines)


def _files(run: Run, report: Report) -> dict[str, bytes]:
    """Everything that is written, by its path in the folder."""
    numbers = {outcome.name: outcome.quantities for outcome in report.shown}
    files = {INDEX: _page(run, report).encode(), CSV: tidy(numbers).encode(), JSON: _json(run, report).encode()}
    for outcome in report.shown:
        if outcome.drawing is not None:
            files[f"{FIGURES}/{outcome.name}.png"] = outcome.drawing.png
            files[f"{FIGURES}/{outcome.name}.svg"] = outcome.drawing.svg
    return files


def _json(run: Run, report: Report) -> str:
    content: JsonTable = {
        "run": {
            "path": run.path.resolve().name,
            "status": run.result.get("status"),
            "model": run_summary.setting(run, "name"),
            "rule": run_summary.setting(run, "rule.kind"),
            "seed": run_summary.setting(run, "seed"),
            "result": run.result,
            "metrics": run.metrics,
        },
        "advice": {origin: lines for origin, lines in report.advice},
        "analyses": {
            outcome.name: {
                "about": outcome.about,
                "caption": outcome.caption,
                "fields": {q.name: {"unit": q.unit, "axes": q.axes, "values": q.values} for q in outcome.quantities},
            }
            for outcome in report.shown
        },
        "not_shown": {o.name: {"record": o.spec, "problem": o.problem} for o in report.outcomes if o.problem},
    }
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def _page(run: Run, report: Report) -> str:
    hidden = [o for o in report.outcomes if o.problem and not o.failed]
    specs = [outcome.spec for outcome in hidden if outcome.spec]
    had = [str(spec) for spec in run_summary.setting(run, "record.signals", ())]
    figure = run_summary.own_figure(run.path)
    rows, problem = _trace(run)
    return render(
        "page.html",
        name=f"{run_summary.setting(run, 'name', '?')}, rule {run_summary.setting(run, 'rule.kind', '?')}",
        status=str(run.result.get("status", "?")),
        about=run_summary.setting(run, "about", ""),
        ran=run_summary.what_ran(run),
        unmeasured=unmeasured(run.unjudged),
        went=run_summary.how_it_went(run),
        own_figure=embed_png(figure) if figure else None,
        advice=report.advice,
        looked=[words(outcome.name) for outcome in report.shown],
        shown=[_section(outcome) for outcome in report.shown],
        failed=report.failed,
        hidden=[
            {"title": words(o.name), "about": o.about, "spec": o.spec, "problem": _briefly(o, run, problem)}
            for o in hidden
        ],
        trace_problem=problem,
        command=run_summary.command_to_record(run, [*had, *specs]) if specs else None,
        provenance=[*run_summary.provenance(run), *rows],
        changed=run_summary.changed(run),
        settings=run_summary.all_settings(run),
    )


def _section(outcome: Outcome) -> JsonTable:
    small, rest = tables(outcome.quantities)
    drawing = outcome.drawing
    assert drawing is not None  # it is shown
    return {
        "name": outcome.name,
        "title": words(outcome.name),
        "about": outcome.about,
        "image": drawing.embedded,
        "width": round(drawing.width * _INCH),
        "caption": outcome.caption,
        "tables": small,
        "rest": [f"{words(q.name)} [{' x '.join(map(str, q.lengths))}]" for q in rest],
    }


def _briefly(outcome: Outcome, run: Run, trace_problem: str | None) -> str | None:
    """Why it is not shown, without what the page has said already."""
    if outcome.problem == trace_problem:
        return "a trace that can be read"
    return outcome.problem.removeprefix(f"{run.path}: ") if outcome.problem else None


def _trace(run: Run) -> tuple[list[tuple[str, str]], str | None]:
    """What to say about the trace: rows for the provenance, and why it cannot be read."""
    try:
        trace = run.trace
    except UsageError as problem:
        return [], str(problem)
    if not trace.names:
        return [("trace", "nothing was recorded")], None
    size = trace.path.stat().st_size
    whole = "" if trace.complete else ", not closed: readable up to its last committed block"
    return [("trace", f"{size / 1e6:,.1f} MB, {len(trace.names)} signals: {', '.join(trace.names)}{whole}")], None


def _drawn_before(folder: Path) -> set[str]:
    """Names of the figures of the report that is replaced."""
    try:
        names = json.loads((folder / JSON).read_text(encoding="utf-8"))["analyses"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str) and re.fullmatch(r"[\w-]+", name)}

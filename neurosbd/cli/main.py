"""The command line: arguments in, public functions called, text out. No logic.

Nothing heavy is imported before a command needs it, so `neurosbd --help` answers at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from neurosbd.allocator import keep_freed_memory
from neurosbd.cli.arguments import parser
from neurosbd.errors import RunError, UsageError
from neurosbd.runs.interrupt import Interrupt
from neurosbd.schema.plugins import load_file
from neurosbd.text import say

if TYPE_CHECKING:
    from neurosbd.runs.loggers import Logger
    from neurosbd.runs.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    try:
        with Interrupt(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _carry_out(arguments)
    except KeyboardInterrupt as stop:
        _complain(f"stopped; {stop}" if str(stop) else "stopped")
        return 1
    finally:
        _let_go()


def _show_warning(message: Warning | str, category: type[Warning], *place: object) -> None:
    """What may not be meant is one line; the place in the code would tell a user nothing."""
    _complain(f"warning: {message}")


def _complain(text: str) -> None:
    """Further lines are set in, so that no name with a line end in it can pass for a message of its own."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # nobody can see it
            say("neurosbd: " + text.replace("\n", "\n  "), sys.stderr)


def _let_go() -> None:
    """Point a stream that takes no more text to nowhere, else Python would fail to empty it at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _carry_out(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
        for file in options.plugin:
            load_file(file)
        status = {
            "fit": _fit, "simulate": _simulate, "analyse": _analyse, "compare": _compare, "predict": _predict,
            "export": _export, "import": _import, "list": _list, "show": _show, "data": _data,
        }[options.command](options)  # fmt: skip
        if options.command not in ("fit", "simulate") and sys.stdout is not None:
            sys.stdout.flush()  # text is all that these give; those leave a run, printed or not
        return status
    except UsageError as problem:
        _complain(str(problem))
        return 2
    except RunError as problem:
        _complain(str(problem))
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        return 0
    except OSError as problem:  # a full disk, a file that may not be read
        where = f"{problem.filename}: " if problem.filename else ""
        _complain(f"{where}{problem.strerror or problem}")
        return 1
    except (MemoryError, RuntimeError) as problem:
        from neurosbd.runs.machine import exhausted

        if not exhausted(problem):  # a mistake of ours
            raise
        _complain(
            f"the memory does not suffice ({str(problem).splitlines()[0][:200] if str(problem) else 'MemoryError'})"
        )
        return 1


def _settings(options: argparse.Namespace) -> dict[str, object]:
    from neurosbd.config.resolve import parse_settings

    chosen: dict[str, object] = {**parse_settings(options.set)}
    return chosen | ({"training.deterministic": True} if getattr(options, "deterministic", False) else {})


def _fit(options: argparse.Namespace) -> int:
    keep_freed_memory()
    from neurosbd.runs.many_seeds import parse_seeds
    from neurosbd.training.fit import fit
    from neurosbd.training.fit_seeds import fit_seeds

    asked = {
        "data": options.data, "rule": options.rule, "loss": options.loss, "recipe": options.recipe,
        "settings": _settings(options), "out": options.out, "device": options.device, "record": options.record,
        "start": options.start, "resume": options.resume, "loggers": _loggers(options),
    }  # fmt: skip
    if options.seeds is None:
        return _status(fit(options.model, seed=options.seed, **asked))
    seeds = parse_seeds(options.seeds)
    return _status_of_all(fit_seeds(options.model, seeds, **asked), len(seeds))


def _simulate(options: argparse.Namespace) -> int:
    keep_freed_memory()
    from neurosbd.experiments.simulate import simulate
    from neurosbd.experiments.simulate_seeds import simulate_seeds
    from neurosbd.runs.many_seeds import parse_seeds

    asked = {
        "rule": options.rule, "settings": _settings(options), "out": options.out, "device": options.device,
        "record": options.record, "resume": options.resume, "loggers": _loggers(options),
    }  # fmt: skip
    if options.seeds is None:
        return _status(simulate(options.experiment, seed=options.seed, **asked))
    seeds = parse_seeds(options.seeds)
    return _status_of_all(simulate_seeds(options.experiment, seeds, **asked), len(seeds))


def _loggers(options: argparse.Namespace) -> "list[Logger]":
    from neurosbd.runs.loggers import Console, named

    return [Console(), *(named(name) for name in dict.fromkeys(options.log))]


def _status(run: "Run") -> int:
    if run.result["status"] != "interrupted":
        return 0
    reported = run.definition.simulation is not None or run.definition.protocol is not None
    _complain(
        f"interrupted after {run.result['epochs']} {'reports' if reported else 'whole epochs'}; everything is kept in "
        f"{run.path}. To go on, repeat the command with --out {run.path} --resume"
    )
    return 1


def _status_of_all(runs: "list[Run]", count: int) -> int:
    from neurosbd.runs.many_seeds import summary

    folder = runs[0].path.parent
    whole = sum(run.result["status"] == "finished" for run in runs)
    if whole:
        say(f"{summary(runs)}; to see them side by side: neurosbd compare {folder}")
    if whole == count:
        return 0
    _complain(
        f"interrupted: {whole} of {count} seeds are finished; everything is kept in {folder}. "
        f"To go on, repeat the command with --out {folder} --resume"
    )
    return 1


def _analyse(options: argparse.Namespace) -> int:
    from neurosbd.report.analysing import analyse_all
    from neurosbd.runs.progress import Reporter

    reports = analyse_all(options.runs, options.own, options.out, Reporter())
    return 1 if any(report.failed for report in reports) else 0


def _compare(options: argparse.Namespace) -> int:
    from neurosbd.report.comparing import compare

    comparison = compare(options.runs, options.out)
    say(comparison.table)
    for warning in comparison.warnings:
        say(f"warning: {warning}")
    say(f"page: {comparison.path}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from neurosbd.report.predicting import predict

    say(predict(options.run, options.data, options.out))
    return 0


def _export(options: argparse.Namespace) -> int:
    from neurosbd.runs.exporting import export

    say(export(options.run, options.to, options.file, options.resets))
    return 0


def _import(options: argparse.Namespace) -> int:
    from neurosbd.interchange import from_sonata

    model = from_sonata(options.network, options.folder, options.dt, options.duration, options.within)
    say(f"{model}\nneurosbd simulate {model}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from neurosbd.cli.catalogue import catalogue, kinds

    if options.kind is None:
        say(kinds())
        return 0
    rows = catalogue(options.kind)
    width = max(len(row.name) for row in rows)
    for row in rows:
        more = [row.checked] if row.checked else []
        more += [f"source: {row.source}"] if row.source else []
        say(f"\n{'':<{width}}  ".join((f"{row.name:<{width}}  {row.about}", *more)))
    return 0


def _show(options: argparse.Namespace) -> int:
    from neurosbd.cli.catalogue import show

    say(show(options.name, options.rule, _settings(options), options.recipe))
    return 0


def _data(options: argparse.Namespace) -> int:
    from neurosbd.datasets.definition import load_file
    from neurosbd.datasets.download import get
    from neurosbd.datasets.inspect import inspect
    from neurosbd.datasets.load import READERS

    if options.action == "get":
        for path in get(load_file(options.name, READERS), options.data):
            say(f"{path}: sha256 as published")
        return 0
    report = inspect(options.name, options.data, _settings(options))
    say(f"{report.name}: {report.folder}")
    say(f"  {report.verified} files verified by sha256, {report.unverified} without a published one")
    for line in report.lines:
        say(f"  {line}")
    return 0

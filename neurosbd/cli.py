"""The command line: arguments in, public functions called, text out. No logic.

Nothing heavy is imported before a command needs it, so `neurosbd --help` answers at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from neurosbd import __version__
from neurosbd.allocator import keep_freed_memory
from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.plugins import load_file
from neurosbd.text import say
from neurosbd.training.interrupt import Interrupt

if TYPE_CHECKING:
    from neurosbd.training.loggers import Logger
    from neurosbd.training.run import Run

_EPILOG = """\
start here:
  neurosbd fit digits-mlp                     train the smallest model by score broadcast, in seconds
  neurosbd fit digits-mlp --rule bp           the same network by backpropagation
  neurosbd fit cifar10-cnn --recipe standard  one way of training that fits all networks of rate units
  neurosbd simulate stdp-window               one synapse under pre/post pairing, as a figure
  neurosbd analyse runs/digits-mlp-sbd-seed0  a page about a run: how it went, what is unhealthy, figures
  neurosbd compare runs/digits-mlp-*          rules and seeds side by side
  neurosbd export RUN --to nwb run.nwb        a run for other tools: NWB, SONATA, NIR
  neurosbd list models                        what ships; also: data, rules, neurons, losses, ...
  neurosbd show cifar10-small                 every value of a model and where it comes from

exit status: 0 success, 1 a run failed or was interrupted, 2 the request was not valid
"""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors name the nearest legal word."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "'" in message:
            given = message.split("'")[1]
            legal = message.split("choose from ")[-1].rstrip(")").replace("'", "").split(", ")
            message = f"there is no '{given}' here{nearest(given, legal)}"
        self.exit(2, f"{self.prog}: {message}\nSee: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message, file or sys.stderr, end="")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="neurosbd",
        description="Networks that learn without backpropagation: score broadcast and decorrelation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neurosbd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_fit(commands)
    _add_simulate(commands)
    _add_analyse(commands)
    _add_compare(commands)
    _add_export(commands)
    listing = commands.add_parser("list", help="what there is: models, data, rules, neurons, losses, ...")
    listing.add_argument(
        "kind", nargs="?", metavar="KIND", help="models, data, rules, ...; none: which kinds there are"
    )
    show = commands.add_parser("show", help="the resolved definition of anything in the lists")
    show.add_argument("name", metavar="NAME", help="a NAME or KIND/NAME of the lists, or a .toml or .py file")
    show.add_argument("--rule", help="resolve a model under this rule")
    show.add_argument("--recipe", help="resolve a model under this recipe")
    show.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value, as for fit")
    data = commands.add_parser("data", help="download and verify data sets")
    action = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("get", "download, with sha256, progress and resume"),
        ("check", "verify and count what is there"),
    ):
        command = action.add_parser(name, help=text)
        command.add_argument("name", metavar="NAME", help="see `neurosbd list data`")
        command.add_argument(
            "--data", metavar="PATH", help="folder of the files (default: NEUROSBD_DATA, or the user's data folder)"
        )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="data.columns=[...]: as for fit"
    )
    for command in (*commands.choices.values(), *action.choices.values()):
        if command is data:  # its actions have it
            continue
        command.add_argument(
            "--plugin", action="append", default=[], metavar="FILE.py",
            help="run a file that registers parts of your own; repeatable",
        )  # fmt: skip
    return parser


def _add_fit(commands: "argparse._SubParsersAction[_Parser]") -> None:
    fit = commands.add_parser("fit", help="train a model on data by a learning rule")
    fit.add_argument("model", metavar="MODEL", help="a model of `neurosbd list models`, or a .toml file")
    fit.add_argument(
        "--data", metavar="D", help="a data set, a .toml, .npz or .csv file, or a folder (default: the model's own)"
    )
    fit.add_argument("--rule", metavar="R", help="see `neurosbd list rules` (default: the model's own)")
    fit.add_argument(
        "--loss", metavar="L", help="see `neurosbd list losses`, or a .py file with a function loss(output, target)"
    )
    fit.add_argument(
        "--recipe", metavar="R", help="how to train: see `neurosbd list recipes` (default: the model's own)"
    )
    fit.add_argument("--seed", type=int, metavar="N", help="of weights, projections, order and augmentation")
    fit.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change a value: training.epochs=3, training.batch_size=50, data.subset=100; repeatable",
    )  # fmt: skip
    fit.add_argument("--out", metavar="DIR", help="run directory (default: runs/MODEL-RULE-seedN)")
    _add_run(fit)


def _add_simulate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    simulate = commands.add_parser("simulate", help="carry out a plasticity experiment: measures and a figure")
    simulate.add_argument("experiment", metavar="EXPERIMENT", help="a model with a task or protocol, or a .toml file")
    simulate.add_argument("--rule", metavar="R", help="see `neurosbd list rules` (default: the experiment's own)")
    simulate.add_argument("--seed", type=int, metavar="N", help="of weights, trials and noise")
    simulate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    simulate.add_argument("--out", metavar="DIR", help="run directory (default: runs/EXPERIMENT-RULE-seedN)")
    _add_run(simulate)


def _add_analyse(commands: "argparse._SubParsersAction[_Parser]") -> None:
    analyse = commands.add_parser(
        "analyse",
        help="write a page about a run: how it went, what is unhealthy, figures, every number",
        description="Writes one self-contained page (index.html), every figure as PNG and SVG, and every number as "
        "metrics.json and metrics.csv. All analyses of `neurosbd list analyses` are carried out; those whose signals "
        "were not recorded are listed with the --record that would provide them.",
    )
    analyse.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run, finished or not, or a trace file")
    analyse.add_argument(
        "--with", dest="own", nargs="+", action="extend", default=[], metavar="FILE",
        help="analyses of your own besides: .py files with analyse(run) and figure(result), see docs/analysis.md",
    )  # fmt: skip
    analyse.add_argument("--out", metavar="DIR", help="folder of the page; of several runs, one in it per run "
                         "(default: RUN/report)")  # fmt: skip


def _add_compare(commands: "argparse._SubParsersAction[_Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="rules and seeds side by side: mean, std, n and confidence interval",
        description="Groups runs by everything but the seed and prints a table: values of the last epoch, mean, "
        "standard deviation and 95 % bootstrap interval over seeds. Writes index.html, comparison.csv, "
        "comparison.json, figure.png and figure.svg.",
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="directories of runs")
    compare.add_argument("--out", metavar="DIR", default="compare", help="where to write (default: ./compare)")


def _add_export(commands: "argparse._SubParsersAction[_Parser]") -> None:
    export = commands.add_parser("export", help="a run in the files of others: NWB, SONATA, NIR")
    export.add_argument("run", metavar="RUN", help="directory of a run, finished or not, or a trace file")
    export.add_argument(
        "--to", required=True, metavar="FORMAT",
        help="nwb (the trace), sonata (its spikes, potentials and rates) or nir (the trained network)",
    )  # fmt: skip
    export.add_argument(
        "--resets", choices=("loop", "to_value"), metavar="HOW",
        help="of neurons that NIR does not have: loop (spelt out, exact) or to_value (the same up to the first spike)",
    )  # fmt: skip
    export.add_argument("file", metavar="FILE", help="to write; must not be there yet")


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    command.add_argument(
        "--record", action="append", default=[], metavar="SPEC",
        help='keep a signal in trace.h5: hidden.spikes, "*.v[neurons=random 100, examples=0:4]", loss; repeatable',
    )  # fmt: skip
    command.add_argument(
        "--log", action="append", default=[], metavar="LOGGER",
        help="tell one more of the progress: tensorboard, into RUN/tensorboard; repeatable",
    )  # fmt: skip
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in the run directory, if there is one"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    with Interrupt(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
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
        options = _parser().parse_args(arguments)
        for file in options.plugin:
            load_file(file)
        status = {
            "fit": _fit, "simulate": _simulate, "analyse": _analyse, "compare": _compare, "export": _export,
            "list": _list, "show": _show, "data": _data,
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
        from neurosbd.training.machine import exhausted

        if not exhausted(problem):  # a mistake of ours
            raise
        _complain(
            f"the memory does not suffice ({str(problem).splitlines()[0][:200] if str(problem) else 'MemoryError'})"
        )
        return 1


def _settings(options: argparse.Namespace) -> dict[str, object]:
    from neurosbd.config.resolve import parse_settings

    return parse_settings(options.set)


def _fit(options: argparse.Namespace) -> int:
    keep_freed_memory()
    from neurosbd.training.fit import fit

    run = fit(
        options.model,
        data=options.data,
        rule=options.rule,
        loss=options.loss,
        recipe=options.recipe,
        seed=options.seed,
        settings=_settings(options),
        out=options.out,
        device=options.device,
        record=options.record,
        resume=options.resume,
        loggers=_loggers(options),
    )
    return _status(run)


def _simulate(options: argparse.Namespace) -> int:
    keep_freed_memory()
    from neurosbd.training.experiments import simulate

    run = simulate(
        options.experiment,
        rule=options.rule,
        seed=options.seed,
        settings=_settings(options),
        out=options.out,
        device=options.device,
        record=options.record,
        resume=options.resume,
        loggers=_loggers(options),
    )
    return _status(run)


def _loggers(options: argparse.Namespace) -> "list[Logger]":
    from neurosbd.training.loggers import Console, named

    return [Console(), *(named(name) for name in dict.fromkeys(options.log))]


def _status(run: "Run") -> int:
    if run.result["status"] != "interrupted":
        return 0
    if "epochs" in run.result:
        _complain(
            f"interrupted after {run.result['epochs']} whole epochs; everything is kept in {run.path}. "
            f"To go on, repeat the command with --out {run.path} --resume"
        )
    else:
        _complain(
            f"interrupted; what was recorded is kept in {run.path}. A protocol is not resumed: run it again into "
            f"another --out"
        )
    return 1


def _analyse(options: argparse.Namespace) -> int:
    from neurosbd.report.analysing import analyse_all
    from neurosbd.training.progress import Reporter

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


def _export(options: argparse.Namespace) -> int:
    from neurosbd.exporting import export

    say(export(options.run, options.to, options.file, options.resets))
    return 0


def _list(options: argparse.Namespace) -> int:
    from neurosbd.catalogue import catalogue, kinds

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
    from neurosbd.catalogue import show

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

"""The arguments of the command line: what each verb takes, and what its help says."""

import argparse
import sys
from typing import Any, NoReturn

from neurosbd import __version__
from neurosbd.errors import nearest
from neurosbd.text import say

_EPILOG = """\
start here:
  neurosbd fit digits-mlp                     train the smallest model by score broadcast, in seconds
  neurosbd fit digits-mlp --rule bp           the same network by backpropagation
  neurosbd fit digits-mlp --seeds 0:8         eight seeds at once, for `compare`
  neurosbd fit cifar10-cnn --recipe standard  one way of training that fits all networks of rate units
  neurosbd simulate stdp-window               one synapse under pre/post pairing, as a figure
  neurosbd analyse runs/digits-mlp-sbd-seed0  a page about a run: how it went, what is unhealthy, figures
  neurosbd compare runs/digits-mlp-*          rules and seeds side by side
  neurosbd predict RUN my_table.csv           what a trained network says of examples of yours
  neurosbd export RUN --to nwb run.nwb        a run for other tools: NWB, SONATA, NIR
  neurosbd import NET --from sonata FOLDER    a network of others as a model of yours, for `simulate`
  neurosbd list models                        what ships; also: data, rules, neurons, losses, ...
  neurosbd show cifar10-small                 every value of a model and where it comes from

exit status: 0 success, 1 a run failed or was interrupted, 2 the request was not valid; 130 where Ctrl-C came
before Python itself had started
"""


class Parser(argparse.ArgumentParser):
    """argparse whose errors name the nearest legal word, and that takes no part of an option for the whole."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and a line that says what was meant."""
        if "invalid choice" in message and "'" in message:
            given = message.split("'")[1]
            legal = message.split("choose from ")[-1].rstrip(")").replace("'", "").split(", ")
            message = f"there is no '{given}' here{nearest(given, legal)}"
        self.exit(2, f"{self.prog}: {message}\nSee: {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """The same, but an option that is not there is refused by the command that it was given to."""
        known, rest = super().parse_known_args(args, namespace)
        unknown = next((word.split("=")[0] for word in rest if word.startswith("-")), None)
        if unknown is not None:
            options = [name for action in self._actions for name in action.option_strings]
            self.error(f"there is no option {unknown}{nearest(unknown, options)}")
        return known, rest

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message, file or sys.stderr, end="")


def parser() -> Parser:
    """That of `neurosbd` with all its verbs."""
    whole = Parser(
        prog="neurosbd",
        description="Networks that learn without backpropagation: score broadcast and decorrelation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"neurosbd {__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_fit(commands)
    _add_simulate(commands)
    _add_analyse(commands)
    _add_compare(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_import(commands)
    listing = commands.add_parser("list", help="what there is: models, data, rules, neurons, losses, ...")
    listing.add_argument(
        "kind", nargs="?", metavar="KIND", help="models, data, rules, ...; none: which kinds there are"
    )
    _add_show(commands)
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
            help="run a file that registers parts of your own, see docs/extending.md; repeatable",
        )  # fmt: skip
    return whole


def _add_fit(commands: "argparse._SubParsersAction[Parser]") -> None:
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
    _add_seeds(fit, "of weights, projections, order and augmentation")
    fit.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change a value: training.epochs=3, training.batch_size=50, data.subset=100; repeatable",
    )  # fmt: skip
    fit.add_argument("--out", metavar="DIR", help="run directory (default: runs/MODEL-RULE-seedN); of --seeds a "
                     "folder of them (default: runs/MODEL-RULE-seeds)")  # fmt: skip
    fit.add_argument(
        "--from", dest="start", metavar="RUN",
        help="start from the weights of another run, with a fresh optimizer and rule",
    )  # fmt: skip
    _add_run(fit)


def _add_simulate(commands: "argparse._SubParsersAction[Parser]") -> None:
    simulate = commands.add_parser("simulate", help="carry out a plasticity experiment: measures and a figure")
    simulate.add_argument(
        "experiment", metavar="EXPERIMENT", help="a model with a task, a protocol or a simulation, or a .toml file"
    )
    simulate.add_argument("--rule", metavar="R", help="see `neurosbd list rules` (default: the experiment's own)")
    _add_seeds(simulate, "of weights, trials and noise")
    simulate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    simulate.add_argument("--out", metavar="DIR", help="run directory (default: runs/EXPERIMENT-RULE-seedN); of "
                          "--seeds a folder of them (default: runs/EXPERIMENT-RULE-seeds)")  # fmt: skip
    _add_run(simulate)


def _add_analyse(commands: "argparse._SubParsersAction[Parser]") -> None:
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


def _add_compare(commands: "argparse._SubParsersAction[Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="rules and seeds side by side: mean, std, n and confidence interval",
        description="Groups runs by everything but the seed and prints a table: values of the last epoch, mean, "
        "standard deviation and 95 % bootstrap interval over seeds. Writes index.html, comparison.csv, "
        "comparison.json, figure.png and figure.svg.",
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="directories of runs, or folders of them (--seeds)")
    compare.add_argument("--out", metavar="DIR", default="compare", help="where to write (default: ./compare)")


def _add_predict(commands: "argparse._SubParsersAction[Parser]") -> None:
    predict = commands.add_parser("predict", help="what a trained network says of examples, and how right it is")
    predict.add_argument("run", metavar="RUN", help="directory of a run that has a checkpoint")
    predict.add_argument(
        "data", metavar="DATA", nargs="?", default="test",
        help="a data set (its test split), a .csv, .npz or .toml, or a folder of pictures "
        "(default: test, the test split of the run's own data)",
    )  # fmt: skip
    predict.add_argument("--out", metavar="DIR", help="where to write (default: RUN/predictions/DATA)")


def _add_export(commands: "argparse._SubParsersAction[Parser]") -> None:
    export = commands.add_parser("export", help="a run in the files of others: NWB, SONATA, NIR")
    export.add_argument("run", metavar="RUN", help="directory of a run, finished or not, or a trace file")
    export.add_argument(
        "--to", required=True, metavar="FORMAT",
        help="nwb (the trace), sonata (its spikes, potentials, rates and weights) or nir (the trained network)",
    )  # fmt: skip
    export.add_argument(
        "--resets", choices=("loop", "to_value"), metavar="HOW",
        help="of neurons that NIR does not have: loop (spelt out, exact) or to_value (the same up to the first spike)",
    )  # fmt: skip
    export.add_argument("file", metavar="FILE", help="to write; must not be there yet")


def _add_import(commands: "argparse._SubParsersAction[Parser]") -> None:
    importing = commands.add_parser("import", help="a network in the files of others as a model of yours: SONATA")
    importing.add_argument("network", metavar="NETWORK", help="the .json of a simulation or circuit, or its folder")
    importing.add_argument(
        "--from", dest="source", required=True, choices=("sonata",), metavar="FORMAT",
        help="sonata (point neurons of NEST's templates, see docs/interchange.md)",
    )  # fmt: skip
    importing.add_argument("--dt", metavar="TIME", help="of a step, '0.1 ms' (default: the network's own)")
    importing.add_argument("--duration", metavar="TIME", help="of the simulation (default: the network's own)")
    importing.add_argument(
        "--within", metavar="DIR", help="read no file that lies outside of it (default: the folder of the .json)"
    )
    importing.add_argument("folder", metavar="FOLDER", help="to write model.toml and its arrays into; must be new")


def _add_show(commands: "argparse._SubParsersAction[Parser]") -> None:
    show = commands.add_parser("show", help="the resolved definition of anything in the lists")
    show.add_argument("name", metavar="NAME", help="a NAME or KIND/NAME of the lists, or a .toml or .py file")
    show.add_argument("--rule", help="resolve a model under this rule")
    show.add_argument("--recipe", help="resolve a model under this recipe")
    show.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value, as for fit")


def _add_seeds(command: argparse.ArgumentParser, whose: str) -> None:
    seeds = command.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, metavar="N", help=whose)
    seeds.add_argument(
        "--seeds", metavar="A:B", help="a run for every seed from A up to B (0:32, or 1,5,9), in one process and folder"
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    command.add_argument(
        "--deterministic", action="store_true",
        help="take only operations that give the same bits every time (training.deterministic); on a CPU all do",
    )  # fmt: skip
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

"""Files of a run directory: what a run leaves behind, and everything that opens it again."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import neurosbd
from faults.formats import Format
from neurosbd.runs.loggers import Event, NullLogger

WHOLE, HALF = Path("whole"), Path("half")
ASKED: dict[str, Any] = {
    "settings": {
        "training.epochs": 2,
        "data.subset": 8,
        "population.hidden1.size": [12],
        "population.hidden2.size": [6],
    },
    "record": ["*.rate[on=test, examples=0:4]", "score[on=test, examples=0:4]", "hidden1->hidden2.weight"],
}
_TEXT = "text without a checksum: another legal text is another legal content"


class StopsAfterOneEpoch(NullLogger):
    """Asks the process to end when the first epoch is over."""

    def on_epoch(self, event: Event) -> None:
        """Once."""
        if event["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def make(folder: Path) -> None:
    """A run that is whole and one that was interrupted."""
    neurosbd.fit("digits-mlp", out=folder / WHOLE, **ASKED)
    neurosbd.fit("digits-mlp", out=folder / HALF, loggers=[StopsAfterOneEpoch()], **ASKED)


def contents(path: Path) -> dict[str, Any]:
    """All that a trace holds."""
    trace = neurosbd.open_run(path).trace
    clocks = [
        [trace.coordinate(clock, name) for name in ("time", "step", "batch", "epoch")]
        for clock in range(len(trace.rows))
    ]
    return {
        "clocks": clocks,
        "values": {name: trace[name][:] for name in trace.names},
        "config": trace.config.get("definition"),
    }


def _opened(path: Path) -> object:
    run = neurosbd.open_run(path.parent)
    return run.config, run.metrics, run.result, run.network().state_dict()


def _prediction_of(path: Path) -> object:
    """The weights of the last checkpoint alone."""
    return neurosbd.open_run(path.parent).network().state_dict()


def _resumed(path: Path) -> object:
    run = neurosbd.fit("digits-mlp", out=path.parent, resume=True, **ASKED)
    return run.checkpoint()["network"], run.metrics, contents(path.parent)


def _compared(path: Path) -> object:
    return neurosbd.compare([WHOLE, HALF], "comparison").table


def _analysed(path: Path) -> object:
    report = neurosbd.analyse(path.parent, out="page")
    if report.failed:
        raise AssertionError(f"analysis {report.failed[0].name} failed: {report.failed[0].problem}")
    shown = json.loads(Path("page", "metrics.json").read_text())["analyses"]
    return shown, contents(path.parent)  # a page about a damaged trace says that it is; here it counts as refused


def _traced(path: Path) -> object:
    return contents(path.parent)


def _exported(path: Path) -> object:
    neurosbd.export(path.parent, "nwb", "out.nwb")
    return contents(Path("out.nwb"))


def _alone(path: Path) -> object:
    """A trace file without its directory."""
    (alone := Path("alone")).mkdir()
    return contents(path.rename(alone / path.name))


_BOTH = (f"{WHOLE}/", f"{HALF}/")
_ALL = (*(_opened, _resumed) * 6, _compared, _analysed)
RUNS = {
    "config.json": Format(make, tuple(f"{run}config.json" for run in _BOTH), _ALL, _TEXT),
    "metrics.jsonl": Format(make, tuple(f"{run}metrics.jsonl" for run in _BOTH), _ALL, _TEXT),
    "result.json": Format(make, tuple(f"{run}result.json" for run in _BOTH), _ALL, _TEXT),
    "checkpoint.pt": Format(make, tuple(f"{run}checkpoint.pt" for run in _BOTH), (_prediction_of, _resumed, _resumed)),
    "trace.h5": Format(make, (f"{WHOLE}/trace.h5",), (*(_traced, _alone, _exported) * 5, _analysed)),
    "trace.h5.partial": Format(make, (f"{HALF}/trace.h5.partial",), (*(_traced, _resumed, _alone) * 5, _analysed)),
}  # fmt: skip

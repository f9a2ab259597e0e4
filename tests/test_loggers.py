"""Who is told of a run: what, in which order, and what happens when a logger is none, fails, or is not installed."""

import io
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.errors import RunError, UsageError, UsageWarning
from neurosbd.runs.loggers import EVENTS, Console, Event, NullLogger, TensorBoard

QUICK: dict[str, Any] = {"training.epochs": 2, "data.subset": 10, "data.test_subset": 5}
PROTOCOL = {"protocol.longest": "20 ms", "protocol.period": "50 ms"}


class Log:
    """Keeps all that it is told; raises where it is asked to. Of no class of ours, as a user's own is."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.told: list[tuple[str, dict[str, Any]]] = []

    def _keep(self, name: str, event: Event) -> None:
        self.told.append((name, dict(event)))
        if name == self.fail:
            raise KeyError("of mine")

    def on_start(self, event: Event) -> None:
        self._keep("on_start", event)

    def on_batch(self, event: Event) -> None:
        self._keep("on_batch", event)

    def on_epoch(self, event: Event) -> None:
        self._keep("on_epoch", event)

    def on_checkpoint(self, event: Event) -> None:
        self._keep("on_checkpoint", event)

    def on_end(self, event: Event) -> None:
        self._keep("on_end", event)

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for told, event in self.told if told == name]


def test_a_logger_is_told_what_the_files_say(tmp_path: Path) -> None:
    """In order. Must fail when on_epoch comes after the checkpoint of its epoch, or says other numbers (both tried)."""
    log = Log()
    run = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[log])
    (start,), (end,) = log.of("on_start"), log.of("on_end")
    epoch = ["on_batch"] * start["batches"] + ["on_epoch", "on_checkpoint"]
    assert log.names() == ["on_start", *epoch, *epoch, "on_end"]
    assert start["path"] == run.path and start["epochs"] == 2 and start["train"] == 100 and start["start"] == "new"
    assert log.of("on_epoch") == run.metrics
    assert [event["epoch"] for event in log.of("on_checkpoint")] == [1, 2]
    assert end == {**run.result, "path": run.path}


def test_a_batch_tells_where_it_is_and_reads_when_asked(tmp_path: Path) -> None:
    read: list[dict[str, float]] = []

    class Reads(NullLogger):
        def on_batch(self, event: Event) -> None:
            assert not any(isinstance(value, float) for value in event.values())
            read.append(event["read"]())

    run = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[Reads()])
    last = read[len(read) // 2 - 1]
    assert {f"train_{key}": value for key, value in last.items()}.items() <= run.metrics[0].items()


def test_a_run_that_goes_on_tells_what_went_before(tmp_path: Path) -> None:
    class Stops(Log):
        def on_epoch(self, event: Event) -> None:
            super().on_epoch(event)
            raise KeyboardInterrupt

    first, second = Stops(), Log()
    with pytest.raises(KeyboardInterrupt):
        neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[first])
    assert first.names()[-1] == "on_end" and first.of("on_end")[0]["status"] == "interrupted"
    run = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True, loggers=[second])
    (start,) = second.of("on_start")
    assert start["start"] == "resumed" and len(run.metrics) == 2
    assert [*start["metrics"], *second.of("on_epoch")][-2:] == run.metrics


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("work", ["fit", "simulate"])
def test_a_logger_that_fails_ends_the_run_with_its_name_and_what_is_kept(tmp_path: Path, event: str, work: str) -> None:
    """The others are told the end; its own exception is the cause. Must fail when it is swallowed (tried)."""
    bad, good, out = Log(event), Log(), tmp_path / "run"
    if work == "simulate" and event == "on_batch":
        pytest.skip("a protocol has reports alone")
    with pytest.raises(RunError, match=rf"logger Log failed in {event}: KeyError: 'of mine'.* in .*run") as found:
        if work == "fit":
            neurosbd.fit("digits-mlp", settings=QUICK, out=out, loggers=[good, bad])
        else:
            neurosbd.simulate("stdp-window", settings=PROTOCOL, out=out, loggers=[good, bad])
    assert isinstance(found.value.__cause__, KeyError)
    status = "finished" if event == "on_end" else "failed"
    assert neurosbd.open_run(out).result["status"] == status == good.of("on_end")[0]["status"]
    assert bad.names().count(event) == 1 and bad.names()[-1] == event
    if work == "fit" and event == "on_checkpoint":
        assert neurosbd.fit("digits-mlp", settings=QUICK, out=out, resume=True).result["status"] == "finished"


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        ("tensorboard", "loggers must be a list of loggers, such as .* got str"),
        (Log(), "loggers must be a list of loggers, such as .* got Log"),
        ([Console(), {"on_start": print}], r"loggers\[1\] is a dict without on_start, on_batch, .* one dictionary"),
        ([Log], r"loggers\[0\] is the class Log itself; give Log\(...\)"),
    ],
)
def test_what_is_no_logger_is_refused_by_name(tmp_path: Path, loggers: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=loggers)
    assert not list(tmp_path.iterdir())


def test_without_a_console_warnings_are_those_of_python(tmp_path: Path) -> None:
    """With one they are lines. Must fail when both or neither say them (tried)."""
    dead = QUICK | {"connection.1.weight": "zeros", "connection.1.plastic": False, "training.epochs": 1}
    with pytest.warns(UsageWarning, match="population 'hidden2'"):
        neurosbd.fit("digits-mlp", settings=dead, out=tmp_path / "a")
    stream = io.StringIO()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        neurosbd.fit("digits-mlp", settings=dead, out=tmp_path / "b", loggers=[Console(stream)])
    assert stream.getvalue().count("warning: population 'hidden2'") == 1
    assert not [warning for warning in told if "hidden2" in str(warning.message)]


def test_the_console_of_an_experiment_says_its_measures_and_figure(tmp_path: Path) -> None:
    stream = io.StringIO()
    run = neurosbd.simulate("stdp-window", settings=PROTOCOL, out=tmp_path / "run", loggers=[Console(stream)])
    text = stream.getvalue()
    assert text.startswith("stdp-window: protocol pairing, rule stdp; cpu, seed 0\n") and f"figure: {run.path}" in text
    assert all(f"{name}: {value:.4g}\n" in text for name, value in run.result["measures"].items())


# TensorBoard --------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads from a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_metrics(tmp_path: Path) -> None:
    """Of a run that was stopped and went on too, once each. Must fail without purge_step (tried)."""
    pytest.importorskip("tensorboard")
    settings = [f"--set={key}={value}" for key, value in QUICK.items()]
    run = ["fit", "digits-mlp", *settings, "--out", str(tmp_path / "run"), "--log", "tensorboard"]
    with pytest.raises(RunError):
        neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[TensorBoard(), Log("on_epoch")])
    assert main([*run, "--resume"]) == 0
    metrics = neurosbd.open_run(tmp_path / "run").metrics
    found = scalars(tmp_path / "run" / "tensorboard")
    for key, tag in (("train_loss", "loss/train"), ("test_accuracy", "accuracy/test"), ("seconds", "run/seconds")):
        assert found[tag] == [(line["epoch"], pytest.approx(line[key])) for line in metrics]


def test_tensorboard_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written. Must fail when it is imported within the run (tried)."""
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["fit", "digits-mlp", "--out", str(tmp_path / "run"), "--log", "tensorboard"]) == 2
    assert "pip install 'neurosbd[tensorboard]'" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["fit", "digits-mlp", "--out", str(tmp_path / "run"), "--log", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'?" in capsys.readouterr().err

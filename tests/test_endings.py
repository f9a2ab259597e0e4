"""However a run ends, its files are whole and its result says how: signals, full disks, lost output, faults of code."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from neurosbd.errors import RunError, UsageError, UsageWarning
from neurosbd.experiments.simulate import simulate
from neurosbd.files import checkpoints
from neurosbd.files import writing as files
from neurosbd.recording import Recorder
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.loggers import Console, Event, NullLogger
from neurosbd.runs.run import open_run
from neurosbd.tasks import TrialSequence
from neurosbd.training.fit import fit
from neurosbd.training.session import Session

QUICK: dict[str, Any] = {"training.epochs": 3, "data.subset": 12}
PROTOCOL = {"protocol.longest": "20 ms", "protocol.period": "50 ms"}
CURSOR = {"protocol.pretraining": 3, "protocol.recorded": 2, "protocol.session": 3, "protocol.batch": 4}
MOMENTUM = {"training.optimizer.momentum": 0.5}
STOPS = (signal.SIGINT, signal.SIGTERM)


def hit(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


class When(NullLogger):
    """Does something when the run starts, epoch 0, or when an epoch is told."""

    def __init__(self, epoch: int, act: Callable[[], Any]) -> None:
        self.epoch, self.act = epoch, act

    def on_start(self, event: Event) -> None:
        if self.epoch == 0:
            self.act()

    def on_epoch(self, event: Event) -> None:
        if event["epoch"] == self.epoch:
            self.act()


class Stream:
    """A file that does something at its first piece."""

    def __init__(self, stream: BinaryIO, act: Callable[[], Any]) -> None:
        self.stream, self.act = stream, act

    def write(self, piece: Any) -> int:
        self.act()
        return self.stream.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def disturb(patch: pytest.MonkeyPatch, names: Sequence[str], act: Callable[[], Any]) -> None:
    """Have `act` happen whenever a piece of a file of one of these names is written; no names: of any."""
    real = files.write_atomic

    def write_atomic(path: Path, write: Callable[[Any], object]) -> None:
        real(path, lambda stream: write(Stream(stream, act)) if not names or path.name in names else write(stream))

    for module in ("files.writing", "files.checkpoints", "runs.keeping"):
        patch.setattr(f"neurosbd.{module}.write_atomic", write_atomic)


def whole(path: Path, status: str) -> dict[str, Any]:
    """The result, once every file of the run was read and nothing half-written was found."""
    assert not [p.name for p in path.iterdir() if p.name.startswith(".") or p.name == "run.lock"]
    run = open_run(path)
    assert json.loads((path / "result.json").read_text())["status"] == run.result["status"] == status
    if (path / "checkpoint.pt").exists():
        checkpoints.load(path / "checkpoint.pt")
    if (path / "trace.h5.partial").exists() or (path / "trace.h5").exists():
        assert run.trace.names
    return run.result


# Signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl", "result.json"])
def test_signals_while_a_file_is_written_wait_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two at every piece. Must fail without `Interrupt.writing`: KeyboardInterrupt within the file (tried)."""
    on: list[bool] = []
    disturb(monkeypatch, [name], lambda: [hit(), hit()] if on else None)
    run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"],
              loggers=[When(0, lambda: on.append(True))])  # fmt: skip
    done = "finished" if name == "result.json" and run.result["status"] == "finished" else "interrupted"
    whole(tmp_path / "run", done)
    monkeypatch.undo()
    again = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"], resume=True)
    assert [line["epoch"] for line in again.metrics] == [1, 2, 3]
    whole(tmp_path / "run", "finished")


def test_a_second_ctrl_c_stops_at_once_and_says_what_is_kept(tmp_path: Path) -> None:
    """Within the evaluation after the first epoch. What is there is that of an undisturbed run when it has gone on."""
    settings = QUICK | {"training.checkpoint_every": 2}
    real, calls = Session.evaluate, []

    def evaluate(self: Session, *arguments: Any) -> Any:
        calls.append(1)
        hit()
        hit()
        return real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "evaluate", evaluate)
        with pytest.raises(KeyboardInterrupt, match="The last checkpoint is kept in"):
            fit("digits-mlp", settings=settings, out=tmp_path / "run", record=["*.rate[on=test]"])
    assert len(calls) == 1
    assert whole(tmp_path / "run", "interrupted")["epochs"] == 0
    fit("digits-mlp", settings=settings, out=tmp_path / "run", record=["*.rate[on=test]"], resume=True)
    fit("digits-mlp", settings=settings, out=tmp_path / "plain", record=["*.rate[on=test]"])
    runs = [open_run(tmp_path / name) for name in ("run", "plain")]
    assert np.array_equal(*(run.trace["hidden1.rate"][:] for run in runs), equal_nan=True)
    assert [line["test_loss"] for line in runs[0].metrics] == [line["test_loss"] for line in runs[1].metrics]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_before_the_run_has_begun_leaves_nothing(tmp_path: Path, number: int) -> None:
    """While the data are read. Must fail when the directory is made first (tried)."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("neurosbd.training.fit.data_of", lambda *_: hit(number))
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_while_the_run_begins_leaves_one_that_goes_on(tmp_path: Path, number: int) -> None:
    run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"],
              loggers=[When(0, lambda: hit(number))])  # fmt: skip
    assert run.result["status"] == "interrupted" and whole(run.path, "interrupted")["epochs"] == 0
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"], resume=True)
    whole(tmp_path / "run", "finished")


def test_two_signals_while_the_run_begins_leave_nothing(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "start", lambda *_: [hit(), hit()])
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"])
    assert not list(tmp_path.iterdir())


def test_sigusr1_before_the_first_step_is_remembered(tmp_path: Path) -> None:
    """Its default would end the process. Must fail when the handler comes with the first step (tried)."""
    seen: list[bool] = []

    class Look(When):
        def on_batch(self, event: Event) -> None:
            seen.append((tmp_path / "run" / "checkpoint.pt").exists())

    hook = Look(0, lambda: hit(signal.SIGUSR1))
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"], loggers=[hook])
    assert seen[:2] == [False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("delay", [0.1, 0.6, 1.5])
def test_a_signal_at_any_moment_of_a_command(tmp_path: Path, number: int, delay: float) -> None:
    """Imports included: one sentence, and either no directory or one that goes on."""
    code = "import sys; from neurosbd.cli.main import main; print('up', flush=True); sys.exit(main())"
    line = [sys.executable, "-c", code]
    line += ["fit", "digits-mlp", "--set", "training.epochs=2", "--set", "data.subset=8", "--out", "run"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert "Traceback" not in told
    if process.returncode:
        assert number != signal.SIGUSR1 and process.returncode == 1 and told.startswith("neurosbd: ")
    if (tmp_path / "run").exists():
        whole(tmp_path / "run", "interrupted" if process.returncode else "finished")


def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own does, which C++ asks for; must fail when the import is not looked for (tried)."""
    lines = "import signal, time", "signal.raise_signal(signal.SIGTERM)", "time.sleep(.1)", "whole = True"
    (tmp_path / "met_by_a_signal.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), Interrupt():
        import met_by_a_signal  # noqa: F401  # pyright: ignore[reportMissingImports]

        time.sleep(10)
    assert sys.modules.pop("met_by_a_signal").whole


def test_an_experiment_in_a_module_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported all the while. Must fail when who looks for imports goes past who opened the context (tried)."""
    (tmp_path / "experiment.py").write_text(
        "import pathlib, signal\nfrom neurosbd.runs.interrupt import Interrupt\n"
        "with Interrupt():\n    signal.raise_signal(signal.SIGINT)\n    pathlib.Path('on').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.chdir(tmp_path)
        import experiment  # noqa: F401  # pyright: ignore[reportMissingImports]
    assert not (tmp_path / "on").exists()


def test_what_c_makes_of_a_signal_is_a_signal_again() -> None:
    """As pydantic does while a schema is built. Must fail when the error leaves as it is (tried); others do."""
    with pytest.raises(KeyboardInterrupt), Interrupt():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("Error building a serializer") from None
    with pytest.raises(ValueError, match="of its own"), Interrupt():
        raise ValueError("of its own")


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(n) for n in (*STOPS, signal.SIGUSR1)]
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(n) for n in (*STOPS, signal.SIGUSR1)] == before


@pytest.mark.parametrize(("name", "settings"), [("stdp-window", PROTOCOL), ("bmi-cursor", CURSOR | MOMENTUM)])
@pytest.mark.parametrize("stop", [3, 5])
def test_a_protocol_stops_between_two_trials_and_goes_on_bit_for_bit(
    tmp_path: Path, name: str, settings: dict[str, Any], stop: int
) -> None:
    """Within a stage and at its end: same measures, curves, lines and trace as of a run that nobody stopped.

    Must fail when the place of the generator, or what the optimizer keeps, is not in the checkpoint (tried: both).
    """
    there: dict[str, Any] = {"settings": settings, "record": ["*.weight[every=1 batch]", "*.drive"]}
    first = simulate(name, **there, out=tmp_path / "run", loggers=[When(stop, hit)])
    assert first.result["status"] == "interrupted" and first.result["epochs"] == stop
    after = simulate(name, **there, out=tmp_path / "run", resume=True)
    straight = simulate(name, **there, out=tmp_path / "straight")
    assert after.result["measures"] == straight.result["measures"] and after.result["status"] == "finished"
    assert (after.path / "curves.csv").read_bytes() == (straight.path / "curves.csv").read_bytes()
    lines = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics] for run in (after, straight)]
    assert lines[0] == lines[1]
    for series in straight.trace.contents.series:
        np.testing.assert_array_equal(after.trace[series.name][:], straight.trace[series.name][:])
    for key, weight in straight.network().state_dict().items():
        assert weight.equal(after.network().state_dict()[key])


def test_a_checkpoint_of_a_protocol_that_was_changed_is_refused(tmp_path: Path) -> None:
    """By the name of what is wrong. Must fail when only torch says so."""
    simulate("bmi-cursor", settings=CURSOR, out=tmp_path / "run", loggers=[When(3, hit)])
    path = tmp_path / "run" / "checkpoint.pt"
    whole = checkpoints.load(path)
    for change, said in (
        ({"number": 10**6}, "number is 1000000, which counts trials"),
        ({"generator": whole["generator"][:8]}, "generator"),
        ({"found": whole["found"][:1]}, "it has 1 of 3 trials"),
    ):
        checkpoints.save(path, whole | change)
        with pytest.raises(UsageError, match=said):
            simulate("bmi-cursor", settings=CURSOR, out=tmp_path / "run", resume=True)


# Disks and faults -----------------------------------------------------------------------------------


def full() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl"])
def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One sentence with what is kept, and result.json says so; with room again the run goes on. torch hides the reason.

    Must fail when result.json is not written after an OSError: it says running (tried).
    """
    on: list[bool] = []
    disturb(monkeypatch, [name], lambda: full() if on else None)
    with pytest.raises(RunError, match=r"No space left on device\)\. The last checkpoint is kept in"):
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"],
            loggers=[When(2, lambda: on.append(True))])  # fmt: skip
    result = whole(tmp_path / "run", "failed")
    assert "No space left" in result["reason"]
    monkeypatch.undo()
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"], resume=True)
    assert whole(tmp_path / "run", "finished")["epochs"] == 3


def test_a_disk_too_full_for_the_result(tmp_path: Path) -> None:
    """Then no file can say how it ended, and who looks is told that its process is gone."""
    on: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, [], lambda: full() if on else None)
        with pytest.raises(RunError, match="No space left on device"):
            fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[When(2, lambda: on.append(True))])
    result = open_run(tmp_path / "run").result
    assert result["status"] == "killed" and "a full disk" in result["reason"]
    assert fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True).result["status"] == "finished"


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_a_disk_that_is_full_already_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    disturb(monkeypatch, [name], full)
    with pytest.raises(UsageError, match=r"run: cannot be written \(No space left on device\); choose another --out"):
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"])
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_for_the_figure(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, ["figure.png"], full)
        with pytest.raises(RunError, match="measures and figure cannot be written"):
            simulate("stdp-window", settings=PROTOCOL, out=tmp_path / "run")
    assert whole(tmp_path / "run", "failed")["reason"]


@pytest.mark.parametrize(
    ("problem", "kind", "message"),
    [
        (MemoryError(), RunError, "the memory does not suffice .* try a smaller training.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), RunError, "the memory does not suffice"),
        (ZeroDivisionError("ours"), ZeroDivisionError, "ours"),
    ],
)
@pytest.mark.parametrize("work", ["fit", "simulate"])
def test_what_goes_wrong_is_in_the_result(
    tmp_path: Path, problem: Exception, kind: type[Exception], message: str, work: str
) -> None:
    """Of the machine, said in a sentence; of code, raised as it is. Must fail when only RunError is caught (tried)."""

    def fail(*_: Any) -> None:
        raise problem

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "step", fail)
        patch.setattr(TrialSequence, "advance", fail)
        with pytest.raises(kind, match=message):
            if work == "fit":
                fit("digits-mlp", settings=QUICK, out=tmp_path / "run", record=["loss"])
            else:
                simulate("stdp-window", settings=PROTOCOL, out=tmp_path / "run", record=["*.weight"])
    result = whole(tmp_path / "run", "failed")
    assert (str(problem) or "MemoryError") in result["reason"]


def test_a_resumed_run_is_running_again(tmp_path: Path) -> None:
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[When(1, hit)])
    assert whole(tmp_path / "run", "interrupted")["epochs"] == 1
    seen: list[Any] = []
    look = When(2, lambda: seen.append(json.loads((tmp_path / "run" / "result.json").read_text())))
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True, loggers=[look])
    assert seen == [{"status": "running", "reason": None}]


def test_a_line_of_metrics_without_its_merit_is_refused(tmp_path: Path) -> None:
    """Must fail (KeyError after the training) when nobody looks before it goes on (tried)."""
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[When(2, hit)])
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("test_accuracy", "test_accuracx", 1))
    with pytest.raises(UsageError, match=r"metrics.jsonl: the line of epoch 1 has no 'test_accuracy'.*remove the file"):
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True)
    metrics.unlink()
    with pytest.warns(UsageWarning, match="lacks 2 of 2 trained epochs"):
        fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True)


def test_a_trace_that_is_gone_is_said(tmp_path: Path) -> None:
    """Of a run at its end, with a warning; of one on its way, with the fix. Must fail when nobody looks (tried)."""
    out = tmp_path / "run"
    fit("digits-mlp", settings=QUICK, out=out, record=["loss"], loggers=[When(2, hit)])
    (out / "trace.h5.partial").rename(tmp_path / "kept")
    with pytest.raises(
        UsageError, match=r"trace.h5.partial: is gone, but the checkpoint was recording into it; put it"
    ):
        fit("digits-mlp", settings=QUICK, out=out, record=["loss"], resume=True)
    (tmp_path / "kept").rename(out / "trace.h5.partial")
    fit("digits-mlp", settings=QUICK, out=out, record=["loss"], resume=True)
    (out / "trace.h5").unlink()
    with pytest.warns(UsageWarning, match=r"trace.h5: is gone; the run has come to its end"):
        assert fit("digits-mlp", settings=QUICK, out=out, record=["loss"], resume=True).result["status"] == "finished"


def test_lost_lines_of_metrics_are_said(tmp_path: Path) -> None:
    fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[When(2, hit)])
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.warns(UsageWarning, match="lacks 2 of 2 trained epochs"):
        run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", resume=True)
    assert [line["epoch"] for line in run.metrics] == [3]


# Output -------------------------------------------------------------------------------------------------


class Lost(io.StringIO):
    """Takes some lines, then no more."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def write(self, text: str) -> int:
        if len(self.getvalue()) > 20:
            raise self.problem
        return super().write(text)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("problem", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")])
def test_a_run_whose_output_is_lost_goes_on(tmp_path: Path, problem: Exception, terminal: bool) -> None:
    """Said once. Must fail when the console raises (tried)."""
    stream = Lost(problem)
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    with pytest.warns(UsageWarning, match=r"nothing more can be printed .* the work goes on") as told:
        run = fit("digits-mlp", settings=QUICK, out=tmp_path / "run", loggers=[Console(stream)])
    assert len(told) == 1 and whole(run.path, "finished")["epochs"] == 3


RUN = f"{sys.executable} -m neurosbd fit digits-mlp --set training.epochs=2 --set data.subset=8 --out run"
LIST = f"{sys.executable} -m neurosbd list models"


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        (f"{RUN} | head -1", 0, "Broken pipe"),
        (f"{RUN} > /dev/full", 0, "No space left on device"),
        (f"{RUN} >&-", 0, ""),
        (f"{RUN} > /dev/full 2> /dev/full", 0, ""),
        (f"{LIST} | head -1", 0, ""),
        (f"{LIST} > /dev/full", 1, "neurosbd: No space left on device"),
        (f"{LIST} >&- 2>&-", 0, ""),
        (f"{sys.executable} -m neurosbd --help > /dev/full", 1, "neurosbd: No space left on device"),
    ],
)
def test_commands_whose_output_goes_nowhere(tmp_path: Path, line: str, status: int, told: str) -> None:
    """A training ends well, what gives only text says that it could not. Never a traceback, nor Python's 120."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    if line.startswith(RUN):
        whole(tmp_path / "run", "finished")

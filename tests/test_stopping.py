"""Early stopping on the validation split: when, why, the best checkpoint, exactly resumed; never on the test set."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.cli.main import main
from neurosbd.errors import UsageError
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.runs.stopping import Stopping
from neurosbd.training.session import Session

# so fast that the validation loss is soon worse again
QUICK: dict[str, Any] = {
    "training.epochs": 12, "data.subset": 12, "data.test_subset": 5, "data.validation": 0.3,
    "training.optimizer": {"kind": "adam", "lr": 0.1}, "training.schedule": "constant",
    "training.stop": {"metric": "validation_loss", "patience": 2},
}  # fmt: skip


def as_of(losses: list[float], patience: int) -> tuple[int, int]:
    """After which epoch a training with these losses ends, and which was the best, by the definition."""
    best = 0
    for end in range(1, len(losses) + 1):
        known = [(loss, epoch) for epoch, loss in enumerate(losses[:end], 1) if not math.isnan(loss)]
        best = min(known)[1] if known else 0
        if end - best >= patience:
            return end, best
    return len(losses), best


@pytest.mark.parametrize(
    "losses",
    [
        [3.0, 2.0, 1.0, 0.5],
        [3.0, 2.0, 2.5, 2.4, 2.3, 0.1],
        [3.0, 3.0, 3.0, 3.0],
        [math.nan, 2.0, math.nan, math.nan, 1.0],
        [math.nan, math.nan, math.nan],
        [1.0, 2.0, 0.9, 2.0, 2.0, 2.0],
    ],
)
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_ends_when_no_epoch_of_so_many_was_better(losses: list[float], patience: int) -> None:
    """Must fail when an equal value counts as better, or a NaN as the best (both tried)."""
    stopping, end = Stopping("validation_loss", patience, -1), 0
    for epoch, loss in enumerate(losses, 1):
        stopping.look(epoch, {"validation_loss": loss})
        end = epoch
        if stopping.over(epoch):
            break
    assert (end, stopping.epoch) == as_of(losses, patience)
    upward = Stopping("validation_accuracy", patience, 1)
    for epoch, loss in enumerate(losses[:end], 1):
        upward.look(epoch, {"validation_accuracy": -loss})
    assert upward.epoch == stopping.epoch


def test_a_run_stops_early_says_why_and_keeps_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best checkpoint gives the validation loss of its epoch, the last one another. Must fail when best.pt is
    that of the last epoch (tried)."""
    settings = [f"--set={key}={json.dumps(value).replace(': ', ' = ')}" for key, value in QUICK.items()]
    settings = [text.replace('"kind" =', "kind =").replace('"lr" =', "lr =") for text in settings]
    settings = [text.replace('"metric" =', "metric =").replace('"patience" =', "patience =") for text in settings]
    assert main(["fit", "digits-mlp", *settings, "--out", str(tmp_path / "run"), "--record", "loss"]) == 0
    run = neurosbd.open_run(tmp_path / "run")
    losses = [line["validation_loss"] for line in run.metrics]
    assert (len(losses), run.result["stop"]["best"]["epoch"]) == as_of(losses, 2) and len(losses) < 12
    stop = run.result["stop"]
    assert run.result["status"] == "finished" and stop["early"] and run.result["reason"] is None
    assert "validation_loss was not better than" in stop["reason"] and "for 2 epochs" in stop["reason"]
    assert f"stopped after epoch {len(losses)}: {stop['reason']}" in capsys.readouterr().out
    line = run.metrics[stop["best"]["epoch"] - 1]
    assert stop["best"] == {k: v for k, v in line.items() if k.startswith(("validation_", "test_", "epoch"))}
    held = neurosbd.load_data("digits", subset=12, validation=0.3).validation
    assert held is not None
    found = [_loss(run.learner(which), run, held) for which in ("last", "best")]
    assert found == [pytest.approx(losses[-1], rel=1e-4), pytest.approx(min(losses), rel=1e-4)]
    assert torch.equal(run.network().weights["input->hidden1"], run.checkpoint()["network"]["weights.input->hidden1"])
    assert run.trace.names and not list(run.path.glob("*.partial"))


def _loss(learner: Any, run: neurosbd.Run, held: Any) -> float:
    from neurosbd.runs.forward import predict

    outputs = predict(learner, run.definition.build(), run.units(), held)
    return torch.nn.functional.cross_entropy(outputs, torch.from_numpy(held.targets)).item()


class StopAfter(NullLogger):
    """Stops the run after so many batches, as Ctrl-C does."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch(self, event: Event) -> None:
        import os
        import signal

        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("batches", [4, 9, 12])
def test_it_is_resumed_exactly(tmp_path: Path, batches: int) -> None:
    """Also when metrics.jsonl is lost. Must fail when what was best is not in the checkpoint (tried)."""
    whole = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "whole")
    cut = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "cut", loggers=[StopAfter(batches)])
    assert cut.result["status"] == "interrupted" and not cut.result["stop"]["early"]
    again = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "cut", resume=True)
    for which in ("last", "best"):
        a, b = whole.checkpoint(which), again.checkpoint(which)
        assert a["stop"] == b["stop"] and (a["epoch"], a["number"]) == (b["epoch"], b["number"])
        assert all(torch.equal(v, b["network"][k]) for k, v in a["network"].items())
    assert again.result["stop"] == whole.result["stop"]
    once_more = neurosbd.fit("digits-mlp", settings=QUICK, out=tmp_path / "cut", resume=True)  # nothing is left to do
    assert once_more.metrics == again.metrics


def test_a_kill_between_the_two_checkpoints_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when best.pt is only written in the epoch itself (tried)."""
    settings = QUICK | {"training.epochs": 1}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("neurosbd.training.loop.keep_best", _killed)
        neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run" / "best.pt").exists()
    run = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run", resume=True)
    assert run.checkpoint("best")["epoch"] == 1


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"training.stop.metric": "test_loss"},
            r"training.stop.metric: nothing may be selected on the test set, .* got 'test_loss'; hold out a validation "
            r"split \(data.validation = 0.1\) and take 'validation_loss'",
        ),
        ({"training.stop.metric": "train_loss"}, "must be a metric of the validation split, such as 'validation_loss'"),
        ({"training.stop.metric": "validation_acuracy"}, "no 'validation_acuracy' here; did you mean 'validation_acc"),
        ({"training.stop": 5}, "training.stop: must be a table of keys, got 5"),
        ({"training.stop.patience": 0}, "training.stop.patience: must be in 1..2147483647, got 0"),
        ({"training.stop.patienc": 3}, "unknown key; did you mean 'patience'"),
        ({"data.validation": None}, "looks at the validation split, but there is none; .* data.validation = 0.1"),
    ],
)
def test_what_it_cannot_look_at_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", settings=QUICK | settings, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_tasks_have_no_validation_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a task draws new trials all the time and has none: remove training.stop"):
        neurosbd.simulate("evidence-accumulation", settings={"training.stop.patience": 3}, out=tmp_path / "run")


def test_a_run_without_it_keeps_no_best_checkpoint(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "data.subset": 5}
    run = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")
    assert "stop" not in run.result and not (run.path / "best.pt").exists()
    with pytest.raises(UsageError, match=r"best.pt: there is none; a run keeps the best checkpoint with training.stop"):
        run.network("best")
    with pytest.raises(UsageError, match="there is no checkpoint 'bets'; did you mean 'best'"):
        run.network("bets")  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [None, {}, {"best": 1.0, "epoch": 9}, {"best": math.nan, "epoch": 1}, [1]])
def test_a_changed_state_is_refused(tmp_path: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when it is taken as it is (tried)."""
    settings = QUICK | {"training.epochs": 2}
    neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run", loggers=[StopAfter(4)])
    real = Session.load_state_dict
    monkeypatch.setattr(Session, "load_state_dict", lambda self, s, path: real(self, s | {"stop": state}, path))
    with pytest.raises(UsageError, match=r"the checkpoint was changed: stop is .* can only be the best epoch"):
        neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run", resume=True)

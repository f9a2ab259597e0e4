"""Trainings that learn from some of their examples: from which, with what gradient, resumed, and what is refused."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.learner import Learner
from neurosbd.runs.loggers import NullLogger
from neurosbd.training.sparing import LargeScores, Speculation

QUICK = {"training.epochs": 3, "data.subset": 10, "population.hidden1.size": [16], "population.hidden2.size": [8]}
AGAIN = {"training.speculation": 0.05, "training.batch_size": 1, "training.optimizer.lr": 1e-3}
PLAIN = {"training.optimizer": {"kind": "sgd", "lr": 1e-2}}


def learner_of(rule: str) -> Learner:
    network = neurosbd.load_model("digits-mlp", rule).network().double()
    return neurosbd.learner(network, rule=rule, loss="cross_entropy", seed=0)


def examples(count: int) -> neurosbd.Batch:
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(1, count, 1, 8, 8, generator=numbers, dtype=torch.float64)
    return neurosbd.Batch(x, torch.randint(10, (count,), generator=numbers))


def test_small_scores_are_not_learned_from() -> None:
    """The gradient is autograd's of the loss of the others, over the whole batch; all of them where none is small.

    Must fail when the mean is over those that are left (tried), or small ones are taken (tried).
    """
    learner, batch = learner_of("bp"), examples(20)
    loss = neurosbd.losses["cross_entropy"]()
    output = learner.answer(batch).output
    size = loss.score(output, batch.target).abs().amax(1)
    least = float(size.median())
    sparing = LargeScores(least, torch.device("cpu"))
    result = sparing.learn(learner, batch, torch.Generator())
    assert torch.equal(result.output, output) and sparing.share() == float((size >= least).double().mean()) < 1
    got = {name: p.grad.clone() for name, p in learner.network.named_parameters() if p.grad is not None}
    learner.network.zero_grad()
    with torch.enable_grad():
        assert isinstance(batch.inputs, torch.Tensor)
        frame = learner.network.step(learner.network.init(batch.inputs[0]), batch.inputs[0])
        losses = torch.nn.functional.cross_entropy(frame.activity["output"].value, batch.target, reduction="none")
        (losses[size >= least].sum() / 20).backward()
    for name, p in learner.network.named_parameters():
        torch.testing.assert_close(got[name], p.grad, rtol=1e-10, atol=1e-14)
    learner.network.zero_grad()
    LargeScores(2.0, torch.device("cpu")).learn(learner, batch, torch.Generator())  # no score is as large
    assert all(p.grad is None for p in learner.network.parameters())


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_a_class_has_its_last_gradient_again(rule: str) -> None:
    """Where its score has hardly moved, though the weights have; another class, or another score, has its own.

    Must fail when gradients are kept for all classes together (tried), or the score of a reused one is kept (tried).
    """
    learner, one = learner_of(rule), examples(1)
    parameters = list(learner.network.parameters())
    sparing, label = Speculation(0.1, parameters, 10), int(one.target[0])

    def gradients(batch: neurosbd.Batch) -> list[torch.Tensor]:
        learner.network.zero_grad()
        sparing.learn(learner, batch, torch.Generator())
        return [p.grad.clone() for p in parameters if p.grad is not None]

    first, last = gradients(one), sparing.last.clone()
    with torch.no_grad():
        for p in parameters:
            p.mul_(1.01)
    assert all(torch.equal(a, b) for a, b in zip(first, gradients(one), strict=True))
    assert torch.equal(sparing.last.nan_to_num(), last.nan_to_num()) and sparing.share() == 0.5
    assert isinstance(one.inputs, torch.Tensor)
    other = neurosbd.Batch(one.inputs, (one.target + 1) % 10)
    assert not torch.equal(first[-1], gradients(other)[-1])
    assert not torch.equal(first[0], gradients(neurosbd.Batch(30 * one.inputs, one.target))[0])
    assert sparing.share() == 1.0 and not sparing.last[label].isnan().any()


@pytest.mark.parametrize("asked", [{"training.least_score": 0.3}, AGAIN])
def test_a_run_goes_on_as_it_would_have(asked: dict[str, Any], tmp_path: Path) -> None:
    """Stopped in its second epoch and resumed: the same weights and shares. Must fail when kept gradients are not in
    the checkpoint (tried)."""
    settings = {**QUICK, **asked}
    whole = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "whole")

    class Stop(NullLogger):
        def on_batch(self, event: Any) -> None:
            if (event["epoch"], event["batch"]) == (2, 2):
                os.kill(os.getpid(), signal.SIGINT)

    neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "cut", loggers=[Stop()])
    on = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "cut", resume=True)
    for name, value in whole.checkpoint()["network"].items():
        assert torch.equal(value, on.checkpoint()["network"][name])
    shares = [m["train_learned"] for m in whole.metrics]
    assert shares == [m["train_learned"] for m in on.metrics] and 0 < shares[-1] <= 1


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("digits-mlp", {"training.least_score": 0.0}, "least_score"),
        ("digits-mlp", {"training.speculation": 0.1}, "one example is used again, and training.batch_size is 32"),
        ("digits-mlp", {**AGAIN, "training.least_score": 0.1}, "training.least_score is set as well"),
        ("digits-mlp", {"training.least_score": 0.1, "record.signals": ["loss"]}, "a recording sees whole batches"),
        ("digits-mlp", {"training.least_score": 0.1, "training.graph": True}, "training.graph replays whole batches"),
        ("digits-snn", {**PLAIN, "training.least_score": 0.1, "rule": {"kind": "rstdp"}}, "hears no score"),
        ("diabetes-mlp", AGAIN, "is none of classes"),
    ],
)
def test_what_needs_every_example_is_refused(
    model: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit(model, settings=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_units_that_look_at_a_whole_batch_need_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'hidden1' remembers what it measures"):
        neurosbd.fit("digits-mlp", recipe="standard", settings={"training.least_score": 0.1}, out=tmp_path / "run")

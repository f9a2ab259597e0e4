"""Pruning: which synapses go and when, that they stay away, resumes, and what is refused."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.runs.loggers import NullLogger
from neurosbd.training.pruning import grouped, strongest

QUICK = {"training.epochs": 3, "data.subset": 20, "population.hidden1.size": [16], "population.hidden2.size": [8]}


def fit(out: Path, **settings: Any) -> neurosbd.Run:
    own = {key.replace("__", "."): value for key, value in settings.items()}
    return neurosbd.fit("digits-mlp", settings={**QUICK, **own}, out=out)


def absent(run: neurosbd.Run) -> dict[str, float]:
    """Share of weights that are 0, by connection."""
    network = run.checkpoint()["network"]
    return {k: float((v == 0).double().mean()) for k, v in network.items() if k.startswith("weights.")}


def test_what_counts_least_goes() -> None:
    """Must fail when the largest go (tried), or one group borrows from another."""
    counts = torch.tensor([[3.0, 1.0, 2.0, 0.5], [9.0, 8.0, 7.0, 6.0]])
    assert strongest(counts, 0.5).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert strongest(counts, 0.0).all()
    assert grouped(counts, 1, 2).tolist() == [[1, 0, 1, 0], [1, 0, 1, 0]]
    assert strongest(torch.zeros(4), 0.5).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("rule", ["sbd", "bp"])
@pytest.mark.parametrize("by", ["magnitude", "saliency"])
def test_a_network_is_pruned_while_it_learns(rule: str, by: str, tmp_path: Path) -> None:
    """The share of the schedule after every epoch, cubic; what has gone stays away under momentum, too.

    Must fail when the optimizer moves what has gone.
    """
    asked = {"share": 0.8, "by": by, "first": 1, "last": 2}
    run = neurosbd.fit("digits-mlp", rule=rule, settings={**QUICK, "training.pruning": asked}, out=tmp_path / "run")
    for share in absent(run).values():
        assert share == pytest.approx(0.8, abs=0.01)
    half = {**asked, "last": 3}
    early = {**QUICK, "training.pruning": half, "training.stop": None}
    once = neurosbd.fit("digits-mlp", rule=rule, settings={**early, "training.epochs": 3}, out=tmp_path / "three")
    assert min(absent(once).values()) == pytest.approx(0.8, abs=0.01)


def test_groups_are_pruned_at_the_end(tmp_path: Path) -> None:
    """2 of every 4, after the last epoch, before it is judged: the accuracy in the metrics is that of what is left."""
    run = fit(tmp_path / "run", training__pruning={"group": [2, 4]})
    for name, weight in run.checkpoint()["network"].items():
        if name.startswith("weights."):
            assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all()
    assert 0 <= run.metrics[-1]["test_accuracy"] <= 1


def test_a_pruned_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """Stopped in its second epoch and resumed: the same weights. Must fail when scores are not in the checkpoint."""
    asked = {"training__pruning": {"share": 0.6, "by": "saliency", "first": 2}}
    whole = fit(tmp_path / "whole", **asked)

    class Stop(NullLogger):
        def on_batch(self, event: Any) -> None:
            if (event["epoch"], event["batch"]) == (2, 4):
                os.kill(os.getpid(), signal.SIGINT)

    settings = {**QUICK, "training.pruning": {"share": 0.6, "by": "saliency", "first": 2}}
    cut = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "cut", loggers=[Stop()])
    assert cut.result["status"] == "interrupted"
    on = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "cut", resume=True)
    for name, value in whole.checkpoint()["network"].items():
        assert torch.equal(value, on.checkpoint()["network"][name])


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"share": 1.0}, "share"),
        ({"share": 0.9999}, "share = 0.9999 would leave nothing of the"),
        ({"group": [4, 4]}, "keeps n of every m synapses, so n < m"),
        ({"group": [2, 5]}, "make no groups of 5"),
        ({"group": [0, 4]}, "group"),
        ({"first": 3, "last": 2}, "first = 3 comes after last = 2"),
        ({"last": 9}, "last = 9, but the training has 3 epochs"),
        ({"first": 9}, "first = 9, but the training has 3 epochs"),
        ({"by": "size"}, "by"),
    ],
)
def test_pruning_to_nothing_is_refused(pruning: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        fit(tmp_path / "run", training__pruning=pruning)
    assert not (tmp_path / "run").exists()

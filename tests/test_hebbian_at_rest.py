"""Hebbian alignment at a checkpoint: the oracles H1 to H5, in float64, and the analysis of a run."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from neurosbd.testing.networks import mlp

PATH = Path(__file__).resolve().parents[1] / "analysis" / "hebbian_at_rest.py"
SPEC = importlib.util.spec_from_file_location("hebbian_at_rest", PATH)
assert SPEC is not None and SPEC.loader is not None
MODULE: Any = importlib.util.module_from_spec(SPEC)
sys.modules["hebbian_at_rest"] = MODULE
SPEC.loader.exec_module(MODULE)


def linear(weight: Tensor) -> Network:
    populations = [
        Population("input", (weight.shape[1],), None),
        Population("output", (len(weight),), NEURONS["identity"]()),
    ]
    network = Network(populations, [Connection("input", "output", Dense())], torch.Generator()).double()
    with torch.no_grad():
        network.weights["input->output"].copy_(weight)
    return network


def regression(decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """Examples, targets, and the weights of ridge regression: mean (W x - y) x^T + decay W = 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(50, 3, generator=generator, dtype=torch.float64) + x[:, :3]
    matrix = x.t() @ x / 50 + decay * torch.eye(6, dtype=torch.float64)
    return x, y, torch.linalg.solve(matrix, x.t() @ y / 50).t()


def measured(weight: Tensor, x: Tensor, y: Tensor, decay: float) -> tuple[float, ...]:
    learner = Learner(linear(weight), RULES["sbd"](), LOSSES["squared_error"](), torch.Generator())
    return MODULE.measured(learner, Batch(x[None], y), decay, torch.Generator())["input->output"]


def test_h1_ridge_regression_balances() -> None:
    """g = decay W, and <g, H> = decay mean |drive|^2, exactly. Must fail when the decay is part of g (tried)."""
    x, y, weight = regression(0.3)
    cosine, toward, balance, norm = measured(weight, x, y, 0.3)
    assert toward == pytest.approx(1, abs=1e-12) and balance == pytest.approx(1, abs=1e-12)
    assert norm == pytest.approx(0.3 * weight.norm().item(), rel=1e-12) and cosine > 0.5


def test_h2_noise_is_anti_hebbian() -> None:
    """w = v + e, e ~ N(0, s^2), one unit: E <g, H> = -|x|^2 ((v.x)^2 + s^2 |x|^2 - (v.x) y); 200,000 draws as so many
    units of one network, in 2 %. <g, H> is what the analysis calls balance, times decay <w, H>.

    Must fail when Hebb's change is that of the score (tried), or the sign of the descent is turned (tried).
    """
    generator, draws, spread = torch.Generator().manual_seed(1), 200_000, 0.7
    v, x = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    weight = v + spread * torch.randn(draws, 5, generator=generator, dtype=torch.float64)
    y = torch.full((1, draws), 0.6, dtype=torch.float64)
    balance = measured(weight, x[None], y, 1.0)[2]
    product = balance * (weight @ x).square().mean().item()
    expected = -x.square().sum() * ((v @ x) ** 2 + spread**2 * x.square().sum() - (v @ x) * 0.6)
    assert product == pytest.approx(expected.item(), rel=0.02)


def test_h3_without_decay_nothing_is_left_at_the_optimum() -> None:
    """g = 0, so that its direction is rounding and is left out. Must fail without a floor (tried)."""
    x, y, weight = regression(0.0)
    cosine, toward, balance, norm = measured(weight, x, y, 0.0)
    assert np.isnan([cosine, toward, balance]).all() and norm < 1e-12


def test_h4_activity_that_grows_is_hebbian() -> None:
    """Forward-Forward on linear units, whose descent is along y h^T: cosine 1 where only right labels count, since all
    goodness is below the threshold, and -1 where only wrong ones do. Labels are written as zeros, so that all showings
    are alike, and Hebb's change is that of each.

    Must fail when both labels have one sign, or the slope of the goodness is not y (tried, both).
    """
    x, labels = torch.randn(20, 6, generator=torch.Generator().manual_seed(2)).double(), torch.arange(20) % 3
    for size, threshold, expected in ((1.0, 1e4, 1.0), (1e3, 1e-3, -1.0)):
        rule = RULES["forward_forward"](threshold=threshold, high=0.0, low=0.0)
        learner = Learner(mlp([6, 5, 3], "identity"), rule, LOSSES["cross_entropy"](), torch.Generator())
        found = MODULE.measured(learner, Batch(size * x[None], labels), 0.0, torch.Generator())
        assert found["input->hidden1"][0] == pytest.approx(expected, abs=1e-12)


def test_h5_learning_the_other_way_turns_the_sign() -> None:
    """Must fail when the cosine has no sign (tried)."""
    x, y, weight = regression(0.3)
    away = 2 * x @ weight.t() - y  # targets whose score is minus the one of y
    there, other = measured(weight, x, y, 0.3), measured(weight, x, away, 0.3)
    assert other[0] == pytest.approx(-there[0], abs=1e-12) and other[2] == pytest.approx(-there[2], abs=1e-12)


def test_a_run_is_looked_at_where_it_ended(tmp_path: Path) -> None:
    """All training examples at once, nothing of the run changed; the same whatever the batch size was."""
    quick = {"training.epochs": 1, "training.optimizer": {"kind": "sgd", "lr": 0.05, "weight_decay": 1e-3}}
    run = neurosbd.fit("digits-mlp", settings={**quick, "training.schedule.kind": "constant"}, out=tmp_path / "run")
    before = (run.path / "checkpoint.pt").read_bytes()
    result = MODULE.analyse(run)
    assert result.connection == ("input->hidden1", "hidden1->hidden2", "hidden2->output")
    assert result.examples == 1442 and result.weight_decay == 1e-3 and (np.abs(result.cosine) <= 1).all()
    assert (run.path / "checkpoint.pt").read_bytes() == before
    MODULE.figure(result).canvas.draw()
    assert "nan" not in MODULE.caption(result) and "weight decay 0.001" in MODULE.caption(result)


def test_runs_without_data_are_refused(tmp_path: Path) -> None:
    quick = {"protocol.longest": "20 ms", "protocol.every": "10 ms", "protocol.period": "50 ms"}
    run = neurosbd.simulate("stdp-window", settings=quick, out=tmp_path / "run")
    with pytest.raises(UsageError, match="was not trained on a data set"):
        MODULE.analyse(run)

"""Analyses of spikes and weights in runs of trials: a training, a task, a protocol."""

from pathlib import Path

import numpy as np
import pytest

import neurosbd
from neurosbd.report.analyses import Outcome, chosen, run_analysis


def outcome(name: str, run: neurosbd.Run) -> Outcome:
    """What an analysis makes of a run."""
    return next(run_analysis(analysis, run) for analysis in chosen(()) if analysis.name == name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    """A spiking network in trials of 16 steps, three or two examples at a time."""
    settings = {"training.epochs": 2, "data.subset": 2, "training.batch_size": 3}
    record = ["*.spikes", "*.weight[every=1 batches]"]
    return neurosbd.fit("digits-snn", settings=settings, record=record, out=tmp_path_factory.mktemp("trained") / "run")


def test_statistics_of_a_training_are_those_of_the_trials_of_its_last_epoch(trained: neurosbd.Run) -> None:
    """Against the recorded arrays. Must fail when all epochs count, or counts are of the whole run (tried, both)."""
    result = outcome("spike_statistics", trained).result
    signal = trained.trace["hidden1.spikes"]
    shown = [values[:, signal.sample[rows.start] >= 0] for rows, values in signal.trials(2)]
    z = np.concatenate(shown, 1).astype(float)  # [16, 20, 128]
    assert z.shape == (16, 20, 128) and result.segments.tolist() == [20, 20]  # type: ignore[attr-defined]
    assert result.rate[0] == pytest.approx(z.mean((0, 1)) / 1e-3)  # type: ignore[attr-defined]
    counts = z.sum(0)
    there = counts.any(0)
    fano = counts.var(0)[there] / counts.mean(0)[there]
    assert result.fano[0][there] == pytest.approx(fano) and result.counted == pytest.approx(16e-3)  # type: ignore[attr-defined]
    assert result.psth[0] == pytest.approx(z.mean((1, 2)) / 1e-3)  # type: ignore[attr-defined]
    assert result.moment == pytest.approx(np.arange(16) * 1e-3)  # type: ignore[attr-defined]
    pairs = z.reshape(2, 8, 20, 128).sum(1).reshape(40, 128)
    chi = np.sqrt(pairs.mean(1).var() / pairs.var(0).mean())
    assert result.synchrony[0] == pytest.approx(chi) and result.over == "epoch 2"  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:xor-delayed-reward. rule 'rstdp' states by how much")
def test_statistics_of_a_task_and_a_protocol(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "training.batches": 2, "training.batch_size": 4}
    task = neurosbd.simulate("xor-delayed-reward", settings=settings, record="*.spikes", out=tmp_path / "xor")
    found = outcome("spike_statistics", task)
    assert "of epoch 1, in 8 examples of trials" in found.caption and found.result.psth.shape == (2, 50)  # type: ignore[attr-defined]
    protocol = neurosbd.simulate("stdp-window", record="*.spikes", out=tmp_path / "window")
    found = outcome("spike_statistics", protocol)
    assert "of its trials, in 41 examples of trials" in found.caption
    assert found.result.rate[0, 0] == pytest.approx(1 / 0.4) and np.isnan(found.result.synchrony[0])  # type: ignore[attr-defined]
    few = neurosbd.fit(
        "digits-snn", settings={"training.epochs": 1, "data.subset": 1, "training.batch_size": 8},
        record=["*.spikes[examples=0, every=2 batches]"], out=tmp_path / "few",
    )  # fmt: skip
    assert "1 bins of 16 ms are too few" in str(outcome("spike_statistics", few).problem)
    for run in (task, protocol, few):
        run.trace.close()

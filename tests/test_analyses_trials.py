"""Analyses of spikes and weights in runs of trials: a training, a task, a protocol."""

import re
from pathlib import Path

import numpy as np
import pytest

import neurosbd
from neurosbd.errors import UsageError
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


def test_statistics_of_very_many_trials_are_those_of_the_last_ones(
    trained: neurosbd.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many whole batches as fit: the last two of three and two examples, and four of half as many neurons."""
    module = next(analysis for analysis in chosen(()) if analysis.name == "spike_statistics").load()
    monkeypatch.setattr(module, "MOST_VALUES", 2 * 16 * 3 * 128)
    result = module.analyse(trained)
    assert result.segments.tolist() == [5, 11] and result.over == "the last of epoch 2"
    monkeypatch.setattr(module, "MOST_VALUES", 1)
    with pytest.raises(UsageError, match="2 bins of 16 ms are too few"):
        module.analyse(trained)


SHORT = {"protocol.longest": "16 ms", "protocol.every": "8 ms", "protocol.period": "40 ms"}  # of stdp-window: 5 trials


@pytest.mark.filterwarnings("ignore:xor-delayed-reward. rule 'rstdp' states by how much")
def test_statistics_of_a_task_and_a_protocol(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "training.batches": 2, "training.batch_size": 4}
    task = neurosbd.simulate("xor-delayed-reward", settings=settings, record="*.spikes", out=tmp_path / "xor")
    found = outcome("spike_statistics", task)
    assert "of epoch 1, in 8 examples of trials" in found.caption and found.result.psth.shape == (2, 50)  # type: ignore[attr-defined]
    protocol = neurosbd.simulate("stdp-window", settings=SHORT, record="*.spikes", out=tmp_path / "window")
    found = outcome("spike_statistics", protocol)
    assert "of its trials, in 5 examples of trials" in found.caption
    assert found.result.rate[0, 0] == pytest.approx(1 / 0.04) and np.isnan(found.result.synchrony[0])  # type: ignore[attr-defined]
    few = neurosbd.fit(
        "digits-snn", settings={"training.epochs": 1, "data.subset": 1, "training.batch_size": 8},
        record=["*.spikes[examples=0, every=2 batches]"], out=tmp_path / "few",
    )  # fmt: skip
    assert "1 bins of 16 ms are too few" in str(outcome("spike_statistics", few).problem)
    for run in (task, protocol, few):
        run.trace.close()


def test_axes_say_what_the_records_of_a_run_are(trained: neurosbd.Run, tmp_path: Path) -> None:
    """Epochs of a training, trials of a protocol, seconds of a free run, each with its own numbers. Must fail when all
    are epochs (tried)."""
    record = ["*.spikes", "*.weight[every=1 batches]"]
    window = neurosbd.simulate("stdp-window", settings=SHORT, record=record, out=tmp_path / "window")
    settings = {"simulation": {"duration": 0.2, "report": 0.05}}
    free = neurosbd.simulate(
        "dopamine-conditioning", settings=settings, record=["*.spikes", "*.weight", "output.v"], out=tmp_path / "free"
    )
    for run, label, first, last in ((trained, "epoch", 1, 2), (window, "trial", 1, 5), (free, "time, s", 0.05, 0.2)):
        for name in ("layer_health", "weights", "weight_distribution", "dimension"):
            found = outcome(name, run)
            if found.problem and name == "dimension":
                continue  # compares examples
            assert not found.problem, (label, name, found.problem)
            assert found.result.axis == label  # type: ignore[attr-defined]
            progress = np.ravel(found.result.progress)  # type: ignore[attr-defined]
            assert np.nanmax(progress) == pytest.approx(last)
            if name == "layer_health":
                assert progress[0] == pytest.approx(first)
            module = next(analysis for analysis in chosen(()) if analysis.name == name).load()
            labels = [ax.get_xlabel() for ax in module.figure(found.result).axes]
            assert label in labels and not {"epoch", "trial", "time, s"} - {label} & set(labels)
    for run in (window, free):
        run.trace.close()


def test_few_synapses_have_few_bins(trained: neurosbd.Run, tmp_path: Path) -> None:
    """2 n^(1/3), up to 40; shares add up to 1. Must fail with 40 bins of two synapses (tried)."""
    many = outcome("weight_distribution", trained).result
    known = np.isfinite(many.edge)  # type: ignore[attr-defined]
    assert known.sum(1).tolist() == [40, 40, 18] and many.synapses.tolist() == [8192, 8192, 640]  # type: ignore[attr-defined]
    assert np.nansum(many.first, 1) == pytest.approx(1) and np.nansum(many.last, 1) == pytest.approx(1)  # type: ignore[attr-defined]
    assert many.progress[0, :5] == pytest.approx(np.arange(5) / 7)  # type: ignore[attr-defined]
    run = neurosbd.simulate("stdp-window", settings=SHORT, record="*.weight", out=tmp_path / "run")
    assert outcome("weight_distribution", run).result.edge.shape == (1, 3)  # type: ignore[attr-defined]
    run.trace.close()


UNDERSCORES = """
simulation = { duration = "0.5 s", report = "0.1 s" }
stimulus = [{ population = "_source", kind = "poisson", rate = "40 Hz" }]
rule.kind = "stdp"
record = { signals = ["*.spikes", "*.weight"] }
connection = [{ pre = "_source", post = "_cell", kind = "dense", weight = { kind = "constant", value = 0.2 } }]
[population]
_source = { size = [9], neuron = "relay" }
_cell = { size = [4], neuron = { kind = "lif", tau_mem = "20 ms" } }
"""


def test_names_with_an_underscore_are_in_the_legends(tmp_path: Path) -> None:
    """matplotlib leaves them out, and says so of a legend without any other. Must fail for `legend()` without what is
    shown (tried; the warning is an error here)."""
    (tmp_path / "own.toml").write_text(UNDERSCORES)
    run = neurosbd.simulate(tmp_path / "own.toml", out=tmp_path / "run")
    for name in ("raster", "layer_health", "spike_statistics", "weights", "weight_distribution"):
        found = outcome(name, run)
        module = next(analysis for analysis in chosen(()) if analysis.name == name).load()
        figure = module.figure(found.result)
        legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend() is not None)]
        assert found.problem is None and legends
        said = {text.get_text() for legend in legends for text in legend.get_texts()}
        expected = {"weights": {"_source->_cell"}, "weight_distribution": {"first", "last"}}
        assert expected.get(name, {"_source", "_cell"}) <= said, name
    run.trace.close()


PLASTIC = {
    "training.epochs": 2, "data.subset": 2, "training.batch_size": 3, "training.schedule": {"kind": "constant"},
    "training.optimizer": {"kind": "sgd", "lr": 1.0},
    "rule.plasticity.window": {"a_plus": 1e-3, "a_minus": 0.6e-3, "tau_plus": 5e-3, "tau_minus": 8e-3},
}  # fmt: skip


def _rule(lag: np.ndarray) -> np.ndarray:
    return np.where(lag >= 0, 1e-3 * np.exp(-lag / 5e-3), -0.6e-3 * np.exp(lag / 8e-3))


@pytest.mark.parametrize("weight", ["*.weight[every=1 batches]", "*.weight[every=3 batches]", "*.dweight"])
def test_the_window_of_a_training_is_that_of_its_rule(tmp_path: Path, weight: str) -> None:
    """To float32, with a short last batch. Must fail when pairs reach from one trial into the next one, when examples
    are summed, or when the empty places of a short batch count (tried, each)."""
    record = ["*.spikes", "input.rate", weight]
    run = neurosbd.fit("digits-snn", rule="stdp", settings=PLASTIC, record=record, out=tmp_path / "run")
    found = outcome("stdp_window", run)
    assert found.problem is None
    window, lag = found.result.window[0], found.result.lag[0]  # type: ignore[attr-defined]
    met = np.isfinite(window)
    assert found.result.connection == ("hidden1->hidden2",) and met.sum() >= 25  # type: ignore[attr-defined]
    assert window[met] == pytest.approx(_rule(lag[met]), abs=2e-6)
    assert found.result.explained[0] > 1 - 1e-5  # type: ignore[attr-defined]
    assert "input sends graded values" in found.caption and "output does not spike" in found.caption
    run.trace.close()


def test_the_window_of_a_protocol_is_the_one_that_it_measures(tmp_path: Path) -> None:
    """A lag in each trial, and weights that begin anew. Must fail when changes are taken from one trial to the next
    (tried)."""
    record = ["output.spikes", "input.rate", "*.dweight", "*.weight[every=1 batches]"]
    settings = {"protocol.period": "170 ms"}
    run = neurosbd.simulate("stdp-window", settings=settings, record=record, out=tmp_path / "run")
    found = outcome("stdp_window", run)
    lag = np.arange(-80, 80, 4) * 1e-3  # of the protocol; one in each bin
    expected = 0.01 * np.where(lag >= 0, np.exp(-lag / 17e-3), -0.6 * np.exp(lag / 34e-3))
    assert found.result.window[0] == pytest.approx(expected, rel=1e-4), found.problem  # type: ignore[attr-defined]
    run.trace.close()
    run = neurosbd.simulate("stdp-window", settings=SHORT, record=[*record[:2], record[3]], out=tmp_path / "anew")
    found = outcome("stdp_window", run)
    assert "trials begin with the same weights; record input->output.dweight" in str(found.problem)
    assert found.spec == "input->output.dweight"
    run.trace.close()


@pytest.mark.parametrize(
    ("record", "said", "spec"),
    [
        (["*.spikes"], "needs changes of its weight of trials with their spikes; record", "hidden1->hidden2.dweight"),
        (["hidden1.spikes", "*.dweight"], "needs the spikes of hidden2; record", "hidden2.spikes"),
        (["*.spikes[every=2 steps]", "*.dweight"], "spikes has every 2 steps; record every step", "hidden1.spikes"),
        (["*.spikes[examples=0:2]", "*.dweight"], "2 of 3 .* or set training.batch_size = 1", "hidden1.spikes"),
        (["*.spikes[every=2 batches]", "*.weight[every=2 batches]"], "record", "hidden1->hidden2.dweight"),
    ],
)
def test_what_a_window_lacks_is_said(record: list[str], said: str, spec: str, tmp_path: Path) -> None:
    settings = PLASTIC | {"training.epochs": 1, "data.subset": 1}
    run = neurosbd.fit("digits-snn", rule="stdp", settings=settings, record=record, out=tmp_path / "run")
    found = outcome("stdp_window", run)
    assert re.search(said, str(found.problem)) and spec in str(found.problem)
    assert found.spec == spec
    run.trace.close()


@pytest.mark.filterwarnings("ignore:xor-delayed-reward. rule 'rstdp' states by how much")
def test_a_task_shows_a_window_of_all_that_spikes(tmp_path: Path) -> None:
    """Its input sends spikes, too; a reward decides over the sign, so that pairs explain little."""
    settings = {"training.epochs": 1, "training.batches": 4, "training.batch_size": 4}
    record = ["*.spikes", "input.rate", "*.dweight"]
    run = neurosbd.simulate("xor-delayed-reward", settings=settings, record=record, out=tmp_path / "run")
    found = outcome("stdp_window", run)
    assert found.result.connection == ("input->hidden", "hidden->output"), found.problem  # type: ignore[attr-defined]
    assert np.isfinite(found.result.window).all() and (found.result.explained < 0.5).all()  # type: ignore[attr-defined]
    run.trace.close()

"""Trace files in the hands of others: pynwb, neo, elephant and xarray read what was recorded, without a warning."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd

RECORD = ["*.spikes[examples=0:4, every=10 batches]", "hidden1.v[examples=[1, 3], neurons=[5, 2, 9]]", "loss", "score",
          "*.third_factor[neurons=0:3]", "*.eligibility[synapses=random 5, examples=0]", "*.weight", "*.projection",
          "*.dweight[synapses=0:4]", "*.hebbian", "*.drive[on=test, examples=0]"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    settings = {"training.epochs": 2, "data.subset": 40}
    return neurosbd.fit("digits-snn", settings=settings, record=RECORD, out=tmp_path_factory.mktemp("run") / "run")


def imported(name: str) -> Any:
    """A module that may warn while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def spike_times(run: neurosbd.Run, population: str, neuron: int, example: int) -> np.ndarray:
    signal = run.trace[f"{population}.spikes"]
    place, item = signal.examples.tolist().index(example), signal.items.tolist().index(neuron)
    return signal.time[signal[:, place, item] > 0]


def test_pynwb_finds_no_fault(run: neurosbd.Run) -> None:
    """Must fail without `unit` of the data, or if the trace is open without a lock (`Could not find an IO`)."""
    pynwb = imported("pynwb")
    assert run.trace.names  # is open meanwhile
    assert not pynwb.validate(path=str(run.path / "trace.h5"))


def test_pynwb_reads_series_trials_and_units(run: neurosbd.Run) -> None:
    """Must fail if timestamps lie under another name first (`either 'timestamps' or 'rate' must be specified`)."""
    pynwb = imported("pynwb")
    with pynwb.NWBHDF5IO(str(run.path / "trace.h5"), "r") as io:
        file = io.read()
        learning = file.processing["learning"]
        v = file.acquisition["hidden1.v"]
        np.testing.assert_array_equal(v.data[:], run.trace["hidden1.v"][:])
        np.testing.assert_array_equal(v.timestamps[:], run.trace["hidden1.v"].time)
        assert v.unit == "threshold" and v.comments == "axes: row, example, neuron"
        np.testing.assert_array_equal(learning["loss"].data[:], run.trace["loss"][:])
        others = [name for name in run.trace.names if not name.endswith((".spikes", ".v", ".drive@test"))]
        assert len(learning.data_interfaces) == len(others) > 8
        units = file.units.to_dataframe()
        assert len(units) == 4 * (128 + 64) and sum(map(len, units.spike_times)) > 100
        for _, unit in units.iterrows():
            expected = spike_times(run, unit.population, unit.neuron, unit.example)
            np.testing.assert_array_equal(unit.spike_times, expected)
        trials = file.trials.to_dataframe().query("split == 'train'")
        assert trials.batch.tolist() == [*range(13)] * 2 and trials.epoch.tolist() == [1] * 13 + [2] * 13
        np.testing.assert_allclose(trials.stop_time - trials.start_time, 0.016)
        before = np.repeat([0.064, 0.128], 13)  # a test of 4 batches comes before every epoch, and one at the end
        np.testing.assert_allclose(trials.start_time, before + np.arange(26) * 0.016)


def test_trials_follow_each_other_and_carry_what_was_shown(run: neurosbd.Run) -> None:
    """Must fail if tests have a time of their own (then they lie upon the training), or samples are misnumbered."""
    pynwb = imported("pynwb")
    with pynwb.NWBHDF5IO(str(run.path / "trace.h5"), "r") as io:
        trials = io.read().trials.to_dataframe()
    starts, stops = trials.start_time.to_numpy(), trials.stop_time.to_numpy()
    assert (starts[1:] >= stops[:-1] - 1e-9).all() and (stops > starts).all()
    runs = [(s, e) for i, (s, e) in enumerate(zip(trials.split, trials.epoch, strict=True))
            if i == 0 or (s, e) != (trials.split[i - 1], trials.epoch[i - 1])]  # fmt: skip
    assert runs == [("test", 0), ("train", 1), ("test", 1), ("train", 2), ("test", 2)]
    data = neurosbd.load_data("digits", subset=40)
    splits = {"train": data.train.labels, "test": data.test.labels}
    for _, trial in trials.iterrows():
        np.testing.assert_array_equal(trial.target, splits[trial.split][trial["sample"]])
        places = [0] if trial.split == "test" else [*range(32)]  # `*.drive[on=test, examples=0]`, loss and score of all
        assert trial.example.tolist() == places[: len(trial.target)] and len(trial.target) in (1, 16, 32)
    assert trials.target.map(len).sum() == 12 + 2 * 400


def test_neo_reads_the_trials(run: neurosbd.Run) -> None:
    """As spike trains whose times lie within the trials. Must fail if units and trials have different times."""
    nwbio, pynwb = imported("neo.io.nwbio"), imported("pynwb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trains = nwbio.NWBIO(str(run.path / "trace.h5"), "r").read_all_blocks()[0].segments[0].spiketrains
        times = np.concatenate([train.rescale("s").magnitude for train in trains])
    with pynwb.NWBHDF5IO(str(run.path / "trace.h5"), "r") as io:
        trials = io.read().trials.to_dataframe().query("split == 'train' and batch in (0, 10)")
    spans = zip(trials.start_time, trials.stop_time, strict=True)
    inside = [((times > start - 1e-9) & (times < stop - 1e-9)).sum() for start, stop in spans]
    assert len(inside) == 4 and min(inside) > 0 and sum(inside) == len(times)


def test_neo_reads_the_spike_trains(run: neurosbd.Run) -> None:
    """Must fail without `obs_intervals`, or with several of them per unit."""
    nwbio = imported("neo.io.nwbio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = nwbio.NWBIO(str(run.path / "trace.h5"), "r")
        (segment,) = reader.read_all_blocks()[0].segments
        trains = segment.spiketrains
        assert len(trains) == 4 * (128 + 64)
        for number in (0, 130, 4 * 128 + 70):
            population, rest = ("hidden1", number) if number < 512 else ("hidden2", number - 512)
            example, neuron = divmod(rest, 128 if population == "hidden1" else 64)
            expected = spike_times(run, population, neuron, example)
            np.testing.assert_allclose(trains[number].rescale("s").magnitude, expected)
            assert float(trains[number].t_stop) == pytest.approx(0.512)  # the end of the last recorded step


def test_elephant_uses_the_spike_trains_of_neo(run: neurosbd.Run) -> None:
    """Must fail if the trains have no beginning and end."""
    nwbio, statistics = imported("neo.io.nwbio"), imported("elephant.statistics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trains = nwbio.NWBIO(str(run.path / "trace.h5"), "r").read_all_blocks()[0].segments[0].spiketrains
        for number in (1, 4, 130):
            rate = float(statistics.mean_firing_rate(trains[number]).rescale("Hz"))
            assert rate == pytest.approx(len(trains[number]) / (0.512 - 0.064))


@pytest.mark.parametrize(
    "group", ["/acquisition/hidden1.v", "/neurosbd/spikes/hidden1.spikes", "/processing/learning/loss"]
)
def test_xarray_reads_a_series_with_its_axes(run: neurosbd.Run, group: str) -> None:
    """Must fail if one axis has no dimension scale."""
    xarray, _ = imported("xarray"), imported("h5netcdf")
    signal = run.trace[group.rsplit("/", 1)[1]]
    path = str(run.path / "trace.h5")
    with xarray.open_dataset(path, engine="h5netcdf", group=group, phony_dims="access") as data:
        assert data["data"].dims == ("timestamps", *signal.axes[1:])
        np.testing.assert_array_equal(data.example, signal.examples)
        if "neuron" in signal.axes:
            np.testing.assert_array_equal(data.neuron, signal.items)
        np.testing.assert_array_equal(data["data"].sel(timestamps=signal.time[3]).values, signal[3])


def test_a_run_without_spikes_is_valid_too(tmp_path: Path) -> None:
    """Its Units table is empty."""
    pynwb = imported("pynwb")
    run = neurosbd.fit(
        "digits-mlp", settings={"training.epochs": 1, "data.subset": 20}, record=["*.rate[on=test]", "*.alignment"],
        out=tmp_path / "run",
    )  # fmt: skip
    path = str(run.path / "trace.h5")
    assert not pynwb.validate(path=path)
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        assert len(file.units) == 0 and "hidden1.rate@test" in file.acquisition

"""Stimuli: rates, times, files, and that nothing depends on the pieces in which they are asked for."""

import math
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.noise import normal, normals, uniform, uniforms
from neurosbd.stimuli import STIMULI, Items, Stimulation, Stimulator
from neurosbd.stimuli.spike_files import read_spikes

LIKE = torch.zeros(())
DT = 1e-3


def _stimulator(*given: Stimulation, count: int = 4, dt: float = DT, seed: int = 0) -> Stimulator:
    return Stimulator(given, {"a": (count,), "b": (2, 3)}, LIKE, 2, dt, seed)


def _drive(kind: str, steps: int, count: int = 4, dt: float = DT, span: Any = (), **constants: Any) -> Tensor:
    given = Stimulation("a", STIMULI[kind](**constants), *span)
    return _stimulator(given, count=count, dt=dt).drives(0, steps)["a"]


def test_keyed_numbers_of_many_steps_are_those_of_each() -> None:
    key, like = torch.tensor(12345), torch.zeros(3, 5)
    whole = uniforms(key, 7, 4, like)
    assert all(torch.equal(whole[n], uniform(key, torch.tensor(7 + n), like)) for n in range(4))
    whole = normals(key, 7, 4, like)
    assert all(torch.equal(whole[n], normal(key, torch.tensor(7 + n), like)) for n in range(4))


def test_poisson_has_its_rate_within_its_standard_error() -> None:
    """Must fail for P = 1 - exp(-rate dt), whose rate is 4.8 % too low at 100 Hz (tried)."""
    spikes = _drive("poisson", 20_000, count=50, rate=100.0)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    expected, count = 0.1, spikes.numel()
    assert abs(spikes.double().mean().item() - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    one, other = spikes[:, 0, 0].double(), spikes[:, 1, 0].double()
    assert abs(float(torch.corrcoef(torch.stack((one, other)))[0, 1])) < 4 / math.sqrt(len(spikes))
    rates = _drive("poisson", 20_000, rate=[0.0, 10.0, 50.0, 100.0]).double().mean((0, 1)) / DT
    for found, rate in zip(rates.tolist(), (0.0, 10.0, 50.0, 100.0), strict=True):
        assert abs(found - rate) <= 4 * math.sqrt(rate * (1 - rate * DT) / DT / 40_000)


def test_many_sources_are_the_sum_of_as_many() -> None:
    """Mean and variance of a binomial count. Must fail for a Poisson count, whose variance is 11 % larger (tried)."""
    n, p = 80, 0.1
    counts = _drive("poisson", 20_000, count=10, rate=100.0, sources=n).double()
    std = math.sqrt(n * p * (1 - p))
    assert abs(counts.mean().item() - n * p) < 4 * std / math.sqrt(counts.numel())
    assert abs(counts.var().item() / std**2 - 1) < 4 * math.sqrt(2 / counts.numel())


def test_regular_spikes_fall_nearest_to_their_times() -> None:
    spikes = _drive("regular", 100, rate=30.0, first=0.005)[:, 0, 0]
    assert spikes.nonzero()[:, 0].tolist() == [5, 38, 72]  # 5, 38.33, 71.67 ms


def test_currents_are_the_functions_that_they_say() -> None:
    time = torch.arange(200, dtype=torch.float64) * DT
    sine = _drive("sine", 200, amplitude=2.0, frequency=10.0, phase=0.3, offset=1.0)[:, 1, 2].double()
    torch.testing.assert_close(sine, 1 + 2 * torch.sin(2 * math.pi * 10 * time + 0.3), rtol=0, atol=1e-6)
    ramp = _drive("ramp", 200, low=1.0, high=-1.0, duration=0.1)[:, 0, 0].double()
    torch.testing.assert_close(ramp, 1 - 2 * (time / 0.1).clamp(max=1), rtol=0, atol=1e-6)
    jumps = _drive("current_steps", 60, times=(0.01, 0.03), values=(0.5, -1.0))[:, 0, 0]
    assert jumps.tolist() == [0.0] * 10 + [0.5] * 20 + [-1.0] * 30
    pulse = _drive("current", 60, amplitude=0.25, span=(0.02, 0.05))[:, 0, 0]
    assert pulse.tolist() == [0.0] * 20 + [0.25] * 30 + [0.0] * 10


@pytest.mark.parametrize("dt", [1e-3, 5e-4])
def test_a_noise_current_has_its_mean_deviation_and_memory_at_every_dt(dt: float) -> None:
    """Must fail when the fresh noise is not scaled by sqrt(1 - a^2) (tried)."""
    steps, tau = 2000, 5e-3
    drive = _drive("noise_current", steps, count=100, dt=dt, mean=0.3, std=2.0, tau=tau).double()
    independent = drive.numel() * (1 - math.exp(-dt / tau)) / 2
    assert abs(drive.mean().item() - 0.3) < 4 * 2 / math.sqrt(independent)
    assert abs(drive.std().item() / 2 - 1) < 4 / math.sqrt(independent)
    centred = drive - 0.3
    lag = round(tau / dt)
    found = (centred[lag:] * centred[:-lag]).mean().item() / 4
    assert abs(found - math.exp(-1)) < 4 / math.sqrt(independent)


def test_drives_do_not_depend_on_the_pieces_and_go_on_where_they_were() -> None:
    """Several stimuli at one population add up. Must fail when a block is not made from its beginning (tried)."""
    given = [
        Stimulation("a", STIMULI["poisson"](rate=50.0), 0.003, 0.15),
        Stimulation("a", STIMULI["noise_current"](tau=0.01)),
        Stimulation("b", STIMULI["sine"]()),
    ]
    whole = _stimulator(*given).drives(0, 200)
    stimulator, found, first = _stimulator(*given), [], 0
    for steps in (1, 1, 60, 30, 7):
        found.append(stimulator.drives(first, steps)["a"])
        first += steps
    resumed = _stimulator(*given)
    resumed.go_on(*stimulator.state())
    found.append(resumed.drives(first, 200 - first)["a"])
    assert torch.equal(torch.cat(found), whole["a"])
    assert whole["b"].shape == (200, 2, 2, 3)
    assert not torch.equal(_stimulator(*given, seed=1).drives(0, 200)["a"], whole["a"])


def test_drives_of_a_network_are_the_same_in_blocks_of_any_length() -> None:
    """A source that is relayed, and a current onto a population that hears it; also without an input population."""
    populations = [
        neurosbd.Population("source", (4,), neurosbd.neurons["relay"]()),
        neurosbd.Population("target", (3,), neurosbd.neurons["lif"](tau_mem=10e-3)),
    ]
    connections = [neurosbd.Connection("source", "target", neurosbd.connections["dense"]())]
    given = [
        Stimulation("source", STIMULI["poisson"](rate=200.0)),
        Stimulation("target", STIMULI["current"](amplitude=0.1)),
    ]
    found = []
    for block in (1, 5, 50):
        generator = torch.Generator().manual_seed(1)
        network = neurosbd.Network(populations, connections, generator, block=block)
        sizes = {name: network.populations[name].size for name in network.incoming}
        drives = Stimulator(given, sizes, LIKE, 2, DT, 0).drives(0, 50)
        seen: list[Tensor] = []
        neurosbd.unroll(
            network, torch.zeros(50, 2, 0), (lambda t, f, seen=seen: seen.append(f.activity["target"].value),),
            drives=drives,
        )  # fmt: skip
        found.append(torch.stack(seen))
    assert found[0].any() and torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_population_that_nobody_drives_is_refused_where_it_runs() -> None:
    network = neurosbd.Network(
        [neurosbd.Population("alone", (3,), neurosbd.neurons["lif"]())], [], torch.Generator().manual_seed(0)
    )
    with pytest.raises(UsageError, match="'alone' has no incoming connection and is given no drive"):
        neurosbd.unroll(network, torch.zeros(5, 1, 0))
    with pytest.raises(UsageError, match=r"no population 'alnoe' to drive; did you mean 'alone'"):
        neurosbd.unroll(network, torch.zeros(5, 1, 0), drives={"alnoe": torch.ones(5, 1, 3)})
    with pytest.raises(UsageError, match=r"the drive of 'alone' is \[5, 1, 2\]"):
        neurosbd.unroll(network, torch.zeros(5, 1, 0), drives={"alone": torch.ones(5, 1, 2)})
    frame = neurosbd.unroll(network, torch.zeros(5, 1, 0), drives={"alone": torch.full((5, 1, 3), 0.1)})
    assert frame.activity["alone"].value.shape == (1, 3)


TIMES, UNITS = np.array([0.0021, 0.004, 0.03]), np.array([1, 0, 3])


def _write(folder: Path, kind: str) -> Path:
    path = folder / f"spikes.{kind}"
    if kind == "csv":
        path.write_text("unit,time\n1,0.0021\n0,0.004\n3,0.03\n")
    elif kind == "npz":
        np.savez(path, times=TIMES, units=UNITS)
    elif kind == "nwb":
        with h5py.File(path, "w") as file:
            file["units/spike_times"] = TIMES[[1, 0, 2]]
            file["units/spike_times_index"] = np.array([1, 2, 2, 3])
    else:
        with h5py.File(path, "w") as file:
            file["spikes/cells/timestamps"] = TIMES * 1e3
            file["spikes/cells/timestamps"].attrs["units"] = "ms"
            file["spikes/cells/node_ids"] = UNITS.astype(np.uint64)
    return path


@pytest.mark.parametrize("kind", ["csv", "npz", "nwb", "h5"])
def test_spikes_come_from_files(tmp_path: Path, kind: str) -> None:
    drive = _drive("spikes", 40, file=str(_write(tmp_path, kind)), amplitude=2.0)
    assert drive[:, 1].nonzero().tolist() == [[2, 1], [4, 0], [30, 3]] and drive.max() == 2


def test_spikes_of_an_exported_run_come_back(tmp_path: Path) -> None:
    run = neurosbd.fit(
        "digits-snn", settings={"training.epochs": 1, "data.subset": 2, "data.test_subset": 1}, out=tmp_path / "run",
        record=["hidden1.spikes[examples=0]"],
    )  # fmt: skip
    signal = run.trace["hidden1.spikes"]
    neurosbd.export(run, "sonata", tmp_path / "out.h5")
    found = read_spikes(tmp_path / "out.h5")
    assert len(found.times) == int((signal[:] > 0).sum()) > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,unit\n0.1,0\n0.2,-1\n", "line 3: needed are a time >= 0 s and a unit 0, 1, 2"),
        ("time,unit\n0.1,0\n0.2,x\n", "line 3: 'x'"),
        ("time,unit\n0.1\n", "line 2 has 1 cells, but the first line has 2"),
        ("tiem,unit\n0.1,0\n", "line 1: no column 'time', there are tiem, unit; needed are time \\(in s\\) and unit"),
        ("time,unit\n0.1,4\n", "unit 4 is not there; the population has 4, 0..3"),
        ("time;unit\n0.1;4\n", "line 1: the columns are separated by semicolons; separate them by commas"),
        ("time,unit,time\n0.1,4,0.2\n", "line 1: there are 2 columns 'time'; rename all but one"),
        ("", "line 1: no column 'time', the line is empty"),
        ("time,unit\n1e300,0\n", r"1e\+300 s is beyond what steps can count"),
    ],
)
def test_a_bad_table_of_spikes_is_refused_with_the_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "spikes.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        _drive("spikes", 10, file=str(path))


def test_times_that_a_run_is_too_short_for_are_said(tmp_path: Path) -> None:
    """Spikes in ms where s are meant would be silence. Must fail when the end of the run is not looked at (tried)."""
    (tmp_path / "ms.CSV").write_text("time,unit\n1,0\n12,1\n33,2\n")
    given = Stimulation("a", STIMULI["spikes"](file=str(tmp_path / "ms.CSV")))
    with pytest.warns(UsageWarning, match="stimulus 0 at 'a': 2 of 3 times, up to 33 s, come after .* at 10 s .* in s"):
        _stimulator(given).warn_of_late(10_000)
    with pytest.warns(UsageWarning, match="stimulus 0 at 'a' begins at 0.5 s, but the run is over at 0.5 s"):
        _stimulator(Stimulation("a", STIMULI["current"](), 0.5)).warn_of_late(500)
    with pytest.warns(UsageWarning, match="1 of 2 times, up to 0.5 s"):
        jumps = Stimulation("a", STIMULI["current_steps"](times=(0.1, 0.4), values=(1.0, 0.0)), 0.1)
        _stimulator(jumps).warn_of_late(500)
    for fits in (Stimulation("a", given.stimulus, 0.0, 5.0), Stimulation("a", STIMULI["current_steps"]())):
        _stimulator(fits).warn_of_late(500_000 if fits.stop is None else 34_000)
    (tmp_path / "none.csv").write_text("time,unit\n")
    with pytest.warns(UsageWarning, match="none.csv: holds no spikes"):
        _stimulator(Stimulation("a", STIMULI["spikes"](file=str(tmp_path / "none.csv"))))
    jumps = Stimulation("a", STIMULI["current_steps"](times=(1e308,), values=(1.0,)))
    assert not _stimulator(jumps).drives(0, 5)["a"].any()


def test_populations_and_sizes_of_a_file_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    """Must fail when the size of a dataset is not compared with what lies in the file (tried)."""
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["units/spike_times"], file["units/spike_times_index"] = [1.0, 2.0, 3.0], [1, 3]
        file["units/population"] = ["e", "i"]
    assert read_spikes(tmp_path / "a.nwb", "i").times.tolist() == [2.0, 3.0]
    with h5py.File(tmp_path / "b.nwb", "w") as file:
        file["units/spike_times"], file["units/spike_times_index"] = [1.0, 2.0, 3.0], [1, 3]
        file["units/population"] = ["e", "i", "i"]
    with h5py.File(tmp_path / "c.nwb", "w") as file:
        file.create_dataset("units/spike_times", (100_000_000,), "f8", chunks=(1000,))
        file["units/spike_times_index"] = [1]
    for name, said in (
        ("b", "'units/population' is object .* legal are 2 texts"),
        ("c", "more than the file can hold"),
    ):
        with pytest.raises(UsageError, match=said):
            read_spikes(tmp_path / f"{name}.nwb", "i")
    content = bytearray((tmp_path / "a.nwb").read_bytes())
    content[content.index(b"GCOL") + 24] ^= 0xFF
    (tmp_path / "d.nwb").write_bytes(content)
    with pytest.raises(UsageError, match="truncated or corrupt HDF5 file"):
        read_spikes(tmp_path / "d.nwb", "i")


def test_other_bad_files_of_spikes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    (tmp_path / "a.txt").write_text("0.1 0")
    np.savez(tmp_path / "a.npz", times=[0.1, -0.2], units=[0, 1])
    np.savez(tmp_path / "b.npz", times=[0.1], units=[0, 1])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["spikes/one/timestamps"], file["spikes/two/timestamps"] = [1.0], [1.0]
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["units/spike_times"], file["units/spike_times_index"] = [1.0, 2.0], [1, 5]
    said = {
        "a.h5": "not a readable HDF5", "a.txt": "read from .csv, .npz, .nwb, .h5", "a.npz": "spike 1 is at -0.2",
        "b.npz": "needed is a number each", "b.h5": "set source to one of one, two", "a.nwb": "does not divide",
        "none.csv": "none.csv",
    }  # fmt: skip
    for name, text in said.items():
        with pytest.raises(UsageError, match=text):
            _drive("spikes", 10, file=str(tmp_path / name))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Stimulation("aa", STIMULI["poisson"]()), "stimulus 0: there is no population 'aa' to stimulate; did you mean"),
        (Stimulation("a", STIMULI["poisson"](rate=2000.0)), "more than one spike in a step"),
        (Stimulation("a", STIMULI["poisson"](rate=[1.0, 2.0])), "has 2 values, but the population has 4 units"),
        (Stimulation("a", STIMULI["sine"](frequency=600.0)), "less than two steps"),
        (Stimulation("a", STIMULI["spikes"]()), "needs times and units, or a file, got neither"),
        (Stimulation("a", STIMULI["current"](), 0.0005), "start = 0.0005 s is no whole number of steps"),
    ],
)
def test_stimuli_that_do_not_fit_are_refused(given: Stimulation, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _stimulator(given)


def test_the_maker_of_a_stimulus_is_none() -> None:
    with pytest.raises(
        ValueError, match=r"stimulus must be a Stimulus, got <class .*Current'>: a class; give the object"
    ):
        Stimulation("a", cast(Any, STIMULI["current"]))


def test_spikes_that_share_a_step_are_said() -> None:
    with pytest.warns(UsageWarning, match="1 of 3 spikes share a step"):
        drive = _drive("spikes", 10, times=(0.001, 0.0012, 0.005), units=(2, 2, 2))
    assert drive[:, 0, 2].tolist() == [0, 2, 0, 0, 0, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="start < stop"):
        Stimulation("a", STIMULI["current"](), 2.0, 1.0)


def test_items_of_a_data_set_follow_one_another_with_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rates are those of the pictures, labels those of what was shown; every pass has all items.

    Must fail when a pause is shown, or an order is not that of its labels (tried, both).
    """
    monkeypatch.chdir(tmp_path)
    items = Items(duration=20e-3, pause=10e-3, shown_as="current", amplitude=2.0)
    like = torch.zeros(1, 64)
    items.check((64,), 1e-3)
    state = items.init(like, 1e-3, torch.Generator().manual_seed(0))
    drive, after = items.block(state, like, 95, 1e-3)
    data = neurosbd.load_data("digits")
    times, labels = items.labels(after, after.done, 1e-3)
    assert times == pytest.approx([0, 0.03, 0.06, 0.09]) and not drive[20:30].any() and not drive[50:60].any()
    for picture, label in zip((drive[t, 0] / 2 for t in (0, 30, 60)), labels, strict=False):
        away = np.abs(data.train.values.reshape(-1, 64) / data.maximum - picture.numpy()).max(1)
        assert away.min() < 1e-6 and data.train.labels[away.argmin()] == label
    count = len(data.train)
    assert sorted(items._numbers(np.arange(count, 2 * count), state.seed)) == list(range(count))
    with pytest.raises(ValueError, match="an item of 'digits' has 64 values, but the population has 10 units"):
        items.check((10,), 1e-3)
    (tmp_path / "own.toml").write_text(
        'simulation = { duration = "0.2 s" }\n'
        'stimulus = [{ population = "source", kind = "dataset", duration = "30 ms", pause = "20 ms" }]\n'
        'population = { source = { size = [64], neuron = "relay" } }\n'
    )
    run = neurosbd.simulate("own.toml")
    rows = [line for line in (run.path / "curves.csv").read_text().splitlines() if line.startswith("items,")]
    assert len(rows) == 4 and run.result["measures"]["source.rate"] > 0

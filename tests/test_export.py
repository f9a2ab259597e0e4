"""A run in the files of others: what their own readers find in NWB, SONATA and NIR."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recorded import check, write

import neurosbd
from neurosbd.cli.main import main
from neurosbd.tracefiles import Trace

RECORD = ["*.spikes[examples=0:4, every=10 batches]", "hidden1.v[examples=[1, 3], neurons=[5, 2, 9], every=3 steps]",
          "hidden2.spikes[on=test, neurons=0:6]", "output.v[examples=0]", "output.rate[examples=0]"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    """Two epochs of 13 batches, the last of 16 examples; the test's last has 55."""
    settings = {"training.epochs": 2, "data.subset": 40}
    return neurosbd.fit("digits-snn", settings=settings, record=RECORD, out=tmp_path_factory.mktemp("run") / "run")


def trials(trace: Trace, name: str) -> list[np.ndarray]:
    """Every example of every batch of a signal, [step, neuron], straight from the arrays."""
    signal = trace[name]
    values, found = signal[:], []
    for key in dict.fromkeys(zip(signal.epoch.tolist(), signal.batch.tolist(), strict=True)):
        rows = np.flatnonzero((signal.epoch == key[0]) & (signal.batch == key[1]))
        found += [values[rows, place] for place in range(len(signal.examples)) if signal.sample[rows[0], place] >= 0]
    return found


def test_sonata_spikes_are_those_recorded(run: neurosbd.Run, tmp_path: Path) -> None:
    """libsonata finds every spike at its trial and step. Must fail if absent examples get a slot, or the neurons of a
    selection are counted from 0."""
    libsonata = pytest.importorskip("libsonata")
    reader = libsonata.SpikeReader(str(neurosbd.export(run, "sonata", tmp_path / "a.h5")))
    assert set(reader.get_population_names()) == {"hidden1", "hidden2", "hidden2@test"}
    for name, population in (("hidden1.spikes", "hidden1"), ("hidden2.spikes@test", "hidden2@test")):
        signal, expected = run.trace[name], []
        for number, trial in enumerate(trials(run.trace, name)):
            step, item = np.nonzero(trial)
            expected += zip(signal.items[item].tolist(), (number * 16.0 + step).round(6).tolist(), strict=True)
        found = [(node, round(time, 6)) for node, time in reader[population].get()]
        assert len(expected) > 10 and sorted(found) == sorted(expected)
        assert reader[population].sorting == "by_time" and reader[population].time_units == "ms"


def test_sonata_reports_are_those_recorded(run: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail if the slot of a trial is not rows x interval, or the columns follow another order than node_ids."""
    libsonata = pytest.importorskip("libsonata")
    path = neurosbd.export(run.path, "sonata", tmp_path / "a.h5")
    reader = libsonata.SomaReportReader(str(path))
    assert set(reader.get_population_names()) == {"hidden1", "output", "output.rate"}
    report, expected = reader["hidden1"], np.concatenate(trials(run.trace, "hidden1.v"))
    assert report.get_node_ids() == [5, 2, 9] and report.data_units == "threshold"
    assert report.times == (0, pytest.approx(len(expected) * 3.0), 3.0)
    for node, column in zip((5, 2, 9), expected.T, strict=True):
        frame = report.get(node_ids=libsonata.Selection(values=[node]))
        np.testing.assert_array_equal(np.asarray(frame.data)[:, 0], column)
        np.testing.assert_allclose(frame.times, np.arange(len(column)) * 3.0)
    with h5py.File(path) as file:
        notes: Any = file["neurosbd/trials/hidden1.v"]
        np.testing.assert_array_equal(notes["start"][:], np.arange(len(notes["start"])) * 18.0)
        assert len(notes["sample"]) * 6 == len(expected) and (notes["sample"][:] >= 0).all()
        assert set(notes["example"][:].tolist()) == {1, 3} and set(notes["epoch"][:].tolist()) == {1, 2}


def test_nwb_is_the_trace_anew(run: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail if a coordinate or a value is lost."""
    path = neurosbd.export(run, "nwb", tmp_path / "a.nwb")
    copy = neurosbd.open_run(path).trace
    assert copy.names == run.trace.names and copy.started == run.trace.started and copy.config == run.trace.config
    for name in copy.names:
        for what in ("time", "step", "batch", "epoch", "sample"):
            np.testing.assert_array_equal(getattr(copy[name], what), getattr(run.trace[name], what))
        np.testing.assert_array_equal(copy[name][:], run.trace[name][:])


def test_nwb_of_an_interrupted_run_has_its_units(tmp_path: Path) -> None:
    """Rows of a clock that were never committed do not come along. Must fail without the table."""
    writer = write(tmp_path / "trace.h5", 3)
    writer.close(complete=False)
    path = neurosbd.export(tmp_path / "trace.h5.partial", "nwb", tmp_path / "a.nwb")
    with h5py.File(path) as file:
        assert len(file["units/id"]) == 600 and len(file["units/spike_times"]) > 0  # type: ignore[arg-type]
        assert b"did not come to its end" in file["session_description"][()]  # type: ignore[index,operator]
    assert check(neurosbd.open_run(path).trace) == [120, 9]


def test_nir_is_the_trained_network(tmp_path: Path) -> None:
    """Must fail if it is the network before the training."""
    nir = pytest.importorskip("nir")
    model = (Path(__file__).parents[1] / "models/digits-snn.toml").read_text()
    model = model.replace('kind = "lif"', 'kind = "lif", reset = "to_value"')
    (tmp_path / "resets.toml").write_text(model)
    settings = {"training.epochs": 1, "data.subset": 20}
    run = neurosbd.fit(tmp_path / "resets.toml", settings=settings, out=tmp_path / "run")
    graph = nir.read(neurosbd.export(run, "nir", tmp_path / "a.nir"))
    trained: Any
    before: Any
    trained, before = neurosbd.to_nir(run.network()), neurosbd.to_nir(run.definition.network())
    names = [name for name, node in graph.nodes.items() if hasattr(node, "weight")]
    assert len(names) == 3
    for name in names:
        np.testing.assert_array_equal(graph.nodes[name].weight, trained.nodes[name].weight)
        assert not np.array_equal(graph.nodes[name].weight, before.nodes[name].weight)


def test_resets_that_nir_lacks_are_written_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail if `resets` does not reach the graph (tried), or another format takes it (tried)."""
    nir = pytest.importorskip("nir")
    settings = {"training.epochs": 1, "data.subset": 20}
    run = neurosbd.fit("digits-snn", settings=settings, out=tmp_path / "run")
    assert main(["export", str(run.path), "--to", "nir", str(tmp_path / "no.nir")]) == 2
    assert "--resets to neurosbd export" in capsys.readouterr().err
    for resets, kinds in (("loop", {"LI", "Threshold", "Scale"}), ("to_value", {"LIF"})):
        file = tmp_path / f"{resets}.nir"
        assert main(["export", str(run.path), "--to", "nir", "--resets", resets, str(file)]) == 0
        assert kinds <= {type(node).__name__ for node in nir.read(file).nodes.values()}
    capsys.readouterr()
    for to, resets, message in (("nwb", "loop", "is for NIR alone"), ("nir", "lop", "did you mean 'loop'")):
        try:
            status = main(["export", str(run.path), "--to", to, "--resets", resets, str(tmp_path / "no.nir")])
        except SystemExit as end:
            status = end.code
        assert status == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "no.nir").exists()


def test_what_cannot_be_exported_is_said_and_nothing_stays(
    run: neurosbd.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.nwb").write_text("mine")
    plain = neurosbd.fit("digits-mlp", settings={"training.epochs": 1, "data.subset": 20}, out=tmp_path / "plain")
    shutil.copy(run.path / "trace.h5", tmp_path / "lone.h5")
    for source, to, name, message in (
        (run.path, "nwb", "there.nwb", "exists already"),
        (run.path, "nwc", "a.nwb", "did you mean 'nwb'"),
        (run.path, "nir", "a.nir", "reset = 'subtract'"),
        (run.path, "nwb", "no/a.nwb", "cannot be written"),
        (plain.path, "nwb", "a.nwb", "nothing was recorded"),
        (tmp_path / "lone.h5", "nir", "a.nir", "there is no checkpoint"),
        (tmp_path / "nothing", "nwb", "a.nwb", "holds no run"),
    ):
        capsys.readouterr()
        assert main(["export", str(source), "--to", to, str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lone.h5", "plain", "there.nwb"]
    assert (tmp_path / "there.nwb").read_text() == "mine"

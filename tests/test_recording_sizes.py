"""What a recording is said to become, against the file that it becomes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_recording import SMALL, SPIKING, model

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.recording import Plan
from neurosbd.runs.batches import DatasetBatches
from neurosbd.tracefiles import Clock, Contents, Rows, Series, TraceWriter, series
from neurosbd.tracefiles.nwb_tables import SPIKE_BYTES
from neurosbd.tracefiles.sizes import most_bytes
from neurosbd.training.session import Session


def planned(definition: Any) -> Plan:
    """What the recorder of a run had in mind."""
    data = definition.data
    dataset = neurosbd.load_data(data.name, subset=data.subset, test_subset=data.test_subset)
    experiment, cpu = definition.build(), torch.device("cpu")
    session = Session(experiment, DatasetBatches(experiment, dataset, cpu), cpu)
    assert session.recorder is not None
    return session.recorder.plan


def trace(path: Path, values: np.ndarray, what: str, steps: int) -> tuple[int, float, int]:
    """(what was said, bytes without spike times, spikes) of a trace of values [row, example, neuron]."""
    count, examples, neurons = values.shape
    place = f"/{'neurosbd/spikes' if what == 'spikes' else 'acquisition'}/x/data"
    one = Series(
        name=f"hidden.{what}", what=what, where="hidden", unit="1", path=place, clock=0, size=(neurons,),
        axes=("row", "example", "neuron"), columns=(examples, neurons),
        dtype="uint8" if what == "spikes" else "float32",
    )  # fmt: skip
    contents = Contents(
        clocks=(Clock(examples=tuple(range(examples))),), series=(one,), dt=1e-3, batch_size=examples, steps=steps,
        expected=(count,),
    )  # fmt: skip
    writer, length = TraceWriter.create(path, contents, CONFIG, "sizes"), contents.block_rows(0)
    row = np.arange(count, dtype="i4")
    for start in range(0, count, length):
        at = slice(start, start + length)
        sample = np.zeros((len(row[at]), examples), np.int64)
        block = {one.name: values[at]}
        writer.append(0, Rows(row[at] * 1e-3, row[at] % steps, row[at] // steps, row[at] * 0 + 1, sample, block))
    spikes = int(np.count_nonzero(values)) if what == "spikes" else 0
    return most_bytes(contents), writer.close(complete=True).stat().st_size - SPIKE_BYTES * spikes, spikes


CONFIG = '{"definition": {}}'
RATES = {"silent": 0.0, "1 of 1000": 0.001, "1 of 100": 0.01, "1 of 20": 0.05, "every second": 0.5, "always": 1.0}


@pytest.mark.parametrize("rate", RATES)
def test_the_estimate_holds_for_spikes_of_any_rate(tmp_path: Path, rate: str) -> None:
    """Never less than is written, whatever fires; of 1 in 32 places or more at most twice as much and the fixed part.

    Must fail if spikes are counted as bytes, or as fewer than 2 bits.
    """
    drawn = np.random.default_rng(0).random((2000, 8, 300)) < RATES[rate]
    said, there, spikes = trace(tmp_path / "a.h5", drawn.astype("u1"), "spikes", 100)
    assert there <= said * 1.02
    if RATES[rate] > 1 / 32:
        assert said <= 2 * there
    assert (spikes > 0) == (RATES[rate] > 0)


@pytest.mark.parametrize(("rows", "columns", "steps"), [(4000, (4, 200), 50), (513, (3, 1001), 9), (5000, (2, 3), 1)])
def test_the_estimate_is_the_size_of_dense_values(
    tmp_path: Path, rows: int, columns: tuple[int, int], steps: int
) -> None:
    """Within a tenth, also where blocks do not divide the rows and of many short trials.

    Must fail without clocks, indices, the rest of the last block or the tables.
    """
    values = np.random.default_rng(0).random((rows, *columns)).astype("f4")
    said, there, _ = trace(tmp_path / "a.h5", values, "v", steps)
    assert there * 0.98 <= said <= there * 1.15 + 60_000


@pytest.mark.parametrize("kind", ["mlp", "snn", "maps"])
def test_the_estimate_of_a_run_is_the_size_of_its_file(tmp_path: Path, kind: str) -> None:
    """Every signal, with the units at the end. Must fail if a clock, a table or the units are forgotten."""
    sources: dict[str, Any] = {"mlp": "digits-mlp", "snn": "digits-snn", "maps": model(tmp_path, spiking=True)}
    record = ["*.rate", "score", "*.weight[every=1 batch]", "loss[on=test]"] if kind == "mlp" else SPIKING
    settings = {**SMALL, "data.subset": 30, "training.optimizer": {"kind": "sgd", "lr": 0.1}, "training.rates": {}}
    run = neurosbd.fit(sources[kind], settings=settings, record=record, out=tmp_path / "run", device="cpu")
    spikes = sum(np.count_nonzero(signal[:]) for signal in run.trace.all("spikes"))
    there = (run.path / "trace.h5").stat().st_size - SPIKE_BYTES * spikes
    said = planned(run.definition).bytes
    assert there * 0.98 <= said <= there * 1.5, (said, there)


def test_units_that_do_not_fit_into_the_limit_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    """A net that fires at every step; the file keeps to its limit. Must fail if the table is written in silence."""
    values = np.ones((3000, 4, 100), "u1")
    said, there, spikes = trace(tmp_path / "a.h5", values, "spikes", 100)
    contents = neurosbd.open_run(tmp_path / "a.h5").trace.contents
    writer = TraceWriter.create(tmp_path / "b.h5", contents, CONFIG, "sizes")
    length = contents.block_rows(0)
    for start in range(0, 3000, length):
        row, block = np.arange(start, min(start + length, 3000), dtype="i4"), values[start : start + length]
        sample = np.zeros((len(row), 4), np.int64)
        writer.append(0, Rows(row * 1e-3, row % 100, row // 100, row * 0 + 1, sample, {"hidden.spikes": block}))
    with pytest.warns(neurosbd.UsageWarning, match=r"b\.h5: the table of units is left out.*export"):
        path = writer.close(complete=True, most=said)
    assert path.stat().st_size <= said < there + SPIKE_BYTES * spikes
    run = neurosbd.open_run(path)
    assert run.trace["hidden.spikes"][:].all()
    whole = neurosbd.export(run, "nwb", tmp_path / "c.nwb")
    assert whole.stat().st_size > said


def test_a_recording_of_absurd_size_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    """Must fail if its tables are made to see how large they are."""
    settings = {**SMALL, "training.epochs": 10**9}
    with pytest.raises(UsageError, match=r"up to .* GB, more than the limit"):
        neurosbd.fit("digits-mlp", settings=settings, record=["*.rate"], out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists() and series.MOST_ROWS

"""Recordings of synapses that are stored as a list: who reads one knows which units each of them joins."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.report import matrix_of_list
from neurosbd.report.analyses import chosen, run_analysis

RECORD = ["*.weight", "*.dweight", "input->hidden1.eligibility[synapses=random 40, examples=0:2]",
          "hidden1->hidden2.weight[synapses=random 9]"]  # fmt: skip


def run(out: Path, storage: str, record: list[str]) -> neurosbd.Run:
    settings: dict[str, Any] = {"training.epochs": 1, "data.subset": 8, "time.steps": 5}
    settings |= {"population.hidden1.size": [32], "population.hidden2.size": [20]}
    for number in (0, 1):
        settings |= {f"connection.{number}.sparsity": 0.8, f"connection.{number}.storage": storage}
    return neurosbd.fit("digits-snn", settings=settings, record=record, out=out)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[neurosbd.Run, neurosbd.Run]:
    """(with masks, with lists), of the same synapses."""
    folder, record = tmp_path_factory.mktemp("both"), RECORD[:2]
    return tuple(run(folder / storage, storage, record) for storage in ("dense", "sparse"))  # type: ignore[return-value]


def places(signal: Any) -> tuple[np.ndarray, np.ndarray]:
    return signal.ends.post, signal.ends.pre


def test_recorded_numbers_are_those_of_the_same_pairs_of_a_matrix(both: tuple[neurosbd.Run, neurosbd.Run]) -> None:
    """Must fail when ends are those of the list sorted by its pre units (tried)."""
    dense, listed = (each.trace for each in both)
    for name in ("input->hidden1.weight", "hidden1->hidden2.weight", "input->hidden1.dweight"):
        matrix, found = dense[name], listed[name]
        assert found.listed and not matrix.listed and len(found) == len(matrix) and found.shape[1] < matrix.shape[1] / 4
        whole = matrix[:].reshape(len(matrix), *matrix.size)
        np.testing.assert_allclose(found[:], whole[:, *places(found)], atol=2e-6)
        there = np.zeros(matrix.size, bool)
        there[places(found)] = True
        assert there.sum() == found.shape[1] and not whole[:, ~there].any()
    matrix = dense["hidden1->hidden2.weight"]
    np.testing.assert_array_equal(np.ravel_multi_index(places(matrix), matrix.size), matrix.items)


def test_chosen_synapses_and_eligibilities_know_their_units_also_in_a_copy(tmp_path: Path) -> None:
    """Must fail when ends are those of the first synapses in place of the chosen ones (tried)."""
    done = run(tmp_path / "run", "sparse", RECORD[2:])
    names = [name for name in done.trace.names if done.trace[name].axes[-1] == "synapse"]
    assert names == ["input->hidden1.eligibility", "hidden1->hidden2.weight"]
    for name in names:
        signal, lists = done.trace[name], done.network().connections[name.rpartition(".")[0]].geometry.lists  # type: ignore[attr-defined]
        assert len(signal.items) in (9, 40) and done.trace[name].to_xarray().coords["pre"].dims == ("synapse",)
        for found, units in zip(signal.ends[:2], (lists.post, lists.pre), strict=True):
            np.testing.assert_array_equal(found, units[signal.items].numpy())
    copied = neurosbd.open_run(neurosbd.export(done, "nwb", tmp_path / "a.nwb"))
    for name in names:
        np.testing.assert_array_equal(copied.trace[name].ends.post, done.trace[name].ends.post)
        assert "from unit pre[n] to unit post[n]" in comments(tmp_path / "a.nwb", name)


def comments(path: Path, name: str) -> str:
    with h5py.File(path) as file:
        group: Any = file[f"processing/learning/{name.replace('->', '_to_')}"]
        assert {"post", "pre", "synapse", "data"} <= set(group)
        return str(group.attrs["comments"])


def test_edges_of_sonata_are_the_pairs_with_their_last_weights(
    both: tuple[neurosbd.Run, neurosbd.Run], tmp_path: Path
) -> None:
    """Of lists and of matrices. Must fail when source and target change places (tried)."""
    libsonata = pytest.importorskip("libsonata")
    for number, each in enumerate(both):
        path = neurosbd.export(each, "sonata", tmp_path / f"{number}.h5")
        edges = libsonata.EdgeStorage(str(path)).open_population("hidden1_to_hidden2")
        signal, all_of_them = each.trace["hidden1->hidden2.weight"], libsonata.Selection([(0, edges.size)])
        assert edges.size == signal.shape[1] and (edges.source, edges.target) == ("hidden1", "hidden2")
        np.testing.assert_array_equal(edges.target_nodes(all_of_them), signal.ends.post)
        np.testing.assert_array_equal(edges.source_nodes(all_of_them), signal.ends.pre)
        np.testing.assert_array_equal(edges.get_attribute("syn_weight", all_of_them), signal[-1])


def test_analyses_show_the_same_of_both(both: tuple[neurosbd.Run, neurosbd.Run]) -> None:
    """Must fail when units are counted as synapses, or a list is drawn as one row of weights."""
    found = {}
    for name in ("weights", "receptive_fields"):
        analysis = next(each for each in chosen(()) if each.name == name)
        one, other = found[name] = [run_analysis(analysis, each).result for each in both]
        assert one is not None and other is not None
    dense, listed = found["weights"]
    assert dense.units.tolist() == listed.units.tolist()
    for field in ("norm", "drift", "singular", "stable_rank"):
        np.testing.assert_allclose(getattr(listed, field), getattr(dense, field), rtol=1e-4, atol=1e-5)
    dense, listed = found["receptive_fields"]
    assert dense.field.shape == listed.field.shape == (32, 1, 8, 8) and dense.unit.tolist() == listed.unit.tolist()
    np.testing.assert_allclose(listed.field, dense.field, atol=2e-6)


def test_several_synapses_of_a_pair_add_up_in_a_matrix() -> None:
    """Must fail when the last of them stands for all (tried)."""
    post, pre = np.array([1, 0, 1]), np.array([2, 0, 2])
    found = matrix_of_list(np.array([0.5, 3.0, 0.25], np.float32), post, pre, (2, 4))
    np.testing.assert_array_equal(found, [[3, 0, 0, 0], [0, 0, 0.75, 0]])
    assert found.dtype == np.float64


def test_damaged_and_missing_ends_are_refused(both: tuple[neurosbd.Run, neurosbd.Run], tmp_path: Path) -> None:
    """Must fail without the checksum (tried)."""
    name, path = "hidden1->hidden2.weight", tmp_path / "trace.h5"
    path.write_bytes((both[1].path / "trace.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        units: Any = file["processing/learning/hidden1_to_hidden2.weight/pre"]
        units[3] += 1
    with pytest.raises(UsageError, match="weight/pre' does not have its checksum"):
        _ = neurosbd.open_run(path).trace[name].ends
    with h5py.File(path, "r+") as file:
        del file["processing/learning/hidden1_to_hidden2.weight/pre"]
    with pytest.raises(UsageError, match=re.escape("weight/pre' is missing")):
        _ = neurosbd.open_run(path).trace[name].ends

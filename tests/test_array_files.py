"""Weights, synapses, constants and delays that a user gives in files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.experiments.free_session import FreeSession

MODEL = """
simulation = { duration = "40 ms" }
stimulus = [{ population = "source", kind = "poisson", rate = "100 Hz" }]
rule = { kind = "stdp", plasticity = { window = { a_plus = 0.01, a_minus = 0.01 } } }
record = { signals = ["cells.spikes", "source->cells.weight"] }
[[connection]]
pre = "source"
post = "cells"
kind = "dense"
weight = { kind = "file", file = "arrays.npz", array = "weight" }
wiring = { kind = "file", file = "arrays.npz", array = "joined" }
delay = { kind = "file", file = "delay.npy" }
[population]
source = { size = [4], neuron = "relay" }
cells = { size = [3], neuron = { kind = "lif", tau_mem = { kind = "file", file = "tau.npy" } } }
"""
WEIGHT = np.linspace(0.5, 1.6, 12).reshape(3, 4)
JOINED = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0]])
DELAY = 1e-3 * np.arange(1, 13).reshape(3, 4)
TAU = np.array([10e-3, 20e-3, 35e-3])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    np.savez(tmp_path / "arrays.npz", weight=WEIGHT, joined=JOINED)
    np.save(tmp_path / "delay.npy", DELAY)
    np.save(tmp_path / "tau.npy", TAU)
    (tmp_path / "model.toml").write_text(MODEL)
    return tmp_path / "model.toml"


def test_a_network_has_what_its_files_say(model: Path) -> None:
    """Whatever folder it is asked from. Must fail when files are looked for in the current folder (tried)."""
    network = neurosbd.load_model(model).network()
    geometry: Any = network.connections["source->cells"].geometry
    lists, weight = geometry.lists, network.weights["source->cells"].detach()
    post, lag, pre = lists.post.long(), lists.pre.long() // 4, lists.pre.long() % 4
    assert torch.equal(weight, torch.from_numpy(WEIGHT).float()[post, pre]) and len(weight) == JOINED.sum()
    assert (JOINED[post, pre] != 0).all()
    steps = torch.tensor(geometry.lags)[lag]
    assert torch.equal(steps, torch.from_numpy(np.round(DELAY * 1e3)).long()[post, pre])
    neuron: Any = network.populations["cells"].neuron
    assert torch.equal(neuron.tau_mem, torch.from_numpy(TAU).float())


def test_a_run_goes_on_bit_for_bit_when_its_files_have_changed(model: Path, tmp_path: Path) -> None:
    """Its checkpoint has all that was read; without the files it is refused.

    Must fail when weights, synapses and constants are those of the files (tried: `network.load_state_dict` left out).
    """

    def session(source: Path) -> FreeSession:
        return FreeSession(neurosbd.load_model(source, settings={"record.signals": []}).build(), torch.device("cpu"))

    whole, cut = session(model), session(model)
    while not whole.over():
        whole.advance()
    while cut.step < 15:
        cut.advance()
    torch.save(cut.state_dict(), tmp_path / "cut.pt")
    np.savez(model.parent / "arrays.npz", weight=2 * WEIGHT, joined=JOINED)
    np.save(model.parent / "tau.npy", TAU / 2)
    after = session(model)
    after.load_state_dict(torch.load(tmp_path / "cut.pt", weights_only=True), tmp_path / "cut.pt")
    while not after.over():
        after.advance()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, after.network.state_dict()[name]), name
    assert not torch.equal(whole.network.weights["source->cells"], session(model).network.weights["source->cells"])
    (model.parent / "tau.npy").unlink()
    with pytest.raises(UsageError, match=r"tau.npy: No such file"):
        session(model)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (WEIGHT.T, r"is \[4, 3\]; needed are \[3, 4\], \[post, pre, ..\]; transpose it"),
        (np.where(WEIGHT > 1.5, np.nan, WEIGHT), r"is nan at \[2, 3\]; all its numbers must be finite"),
        (np.where(WEIGHT > 1.5, 1e300, WEIGHT), r"is 1e\+300 at \[2, 3\]; all its numbers must be finite in float32"),
        (np.array([["a"]]), r"holds <U1; needed are numbers"),
        (np.array([[object()]], dtype=object), r"not a readable .npy file of plain numbers|holds Python objects"),
        (None, r"No such file"),
    ],
)
def test_what_does_not_fit_is_said(model: Path, array: Any, said: str) -> None:
    """Of a .npy and of a .npz. Must fail when nobody looks (tried)."""
    text = MODEL.replace('file = "arrays.npz", array = "weight"', 'file = "other.npy"')
    model.write_text(text)
    other = model.parent / "other.npy"
    if array is not None:
        np.save(other, array, allow_pickle=True)
    with pytest.raises(UsageError, match=rf"other.npy.*({said})"):
        neurosbd.load_model(model).network()
    if array is not None:
        np.savez(model.parent / "other.npz", array)
        model.write_text(text.replace("other.npy", "other.npz"))
        with pytest.raises(UsageError, match=r"other.npz"):
            neurosbd.load_model(model).network()


def test_a_header_that_is_cut_off_is_said(model: Path) -> None:
    """numpy reads headers as Python text, and not all that is wrong with that is a ValueError.

    Must fail when a tokenize.TokenError is let through (tried).
    """
    data = (model.parent / "delay.npy").read_bytes()
    (model.parent / "delay.npy").write_bytes(data.replace(b"'shape': (3, 4)", b"'shape': ((((((("))
    with pytest.raises(UsageError, match=r"delay.npy: not a readable .npy file of plain numbers"):
        neurosbd.load_model(model).network()


def test_what_is_no_array_is_said(model: Path) -> None:
    """Files of other kinds, names that are not there, constants out of range, several arrays."""
    cases = {
        '"tau.npy"': ('"tau.csv"', "tau.csv"),
        'array = "weight"': ('array = "wieght"', "no array 'wieght'; did you mean 'weight'"),
        'file = "arrays.npz", array = "weight"': ('file = "arrays.npz"', "has 2 arrays; name one of them"),
        'file = "tau.npy"': ('file = "minus.npy"', r"tau_mem: must be a positive time in s"),
        'file = "delay.npy"': ('file = "tau.npy"', r"tau.npy: is \[3\]; needed are \[3, 4\]"),
    }
    np.save(model.parent / "minus.npy", -TAU)
    shutil.copy(model, model.parent / "tau.csv")
    for old, (new, said) in cases.items():
        model.write_text(MODEL.replace(old, new))
        with pytest.raises(UsageError, match=said):
            neurosbd.load_model(model).network()

"""Synapses that move at the spikes have the weights that they would have by `.grad`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neurosbd import load_model
from neurosbd.experiments.free_session import FreeSession

MODEL = """
simulation = { duration = "200 ms", report = "50 ms" }
stimulus = [
    { population = "source", kind = "poisson", rate = "60 Hz" },
    { population = "exc", kind = "noise_current", mean = 0.06, std = 0.1, tau = "5 ms" },
]
rule = { kind = "stdp", plasticity = { window = { a_plus = 0.02, a_minus = 0.02, w_min = 0.0, w_max = 0.2 } } }
connection = [
    { pre = "source", post = "exc", kind = "dense", sparsity = 0.7, storage = "sparse", delay = 3, weight = "uniform" },
    { pre = "exc", post = "exc", kind = "dense", wiring = { kind = "indegree", count = 6 }, storage = "sparse" },
]
[population]
source = { size = [40], neuron = "relay" }
exc = { size = [30], neuron = { kind = "lif", tau_mem = "20 ms", refractory = "3 ms" } }
"""
STDP: dict[str, Any] = {"a_plus": 0.02, "a_minus": 0.02, "w_min": 0.0, "w_max": 0.2}
PLASTICITIES: dict[str, dict[str, Any]] = {
    "additive": {"kind": "spike_timing", "window": STDP},
    "nearest": {"kind": "spike_timing", "window": STDP | {"pairing": "nn_symm"}},
    "multiplicative": {"kind": "spike_timing", "window": STDP | {"bounds": "multiplicative"}},
    "power_law": {"kind": "spike_timing", "window": STDP | {"bounds": "power_law", "mu": 0.4}},
    "triplet": {"kind": "triplet", "w_max": 0.2, "a3_minus": 0.01},
    "nearest triplets": {"kind": "triplet", "w_max": 0.2, "a3_minus": 0.01, "pairing": "nn_symm"},
    "symmetric_inhibitory": {"kind": "symmetric_inhibitory", "w_min": -0.5},
}


def session(tmp_path: Path, **settings: Any) -> FreeSession:
    path = tmp_path / "own.toml"
    path.write_text(MODEL)
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return FreeSession(load_model(path, settings=dotted).build(), torch.device("cpu"))


def over(made: FreeSession) -> FreeSession:
    while not made.over():
        made.advance()
    return made


@pytest.mark.parametrize("plasticity", list(PLASTICITIES))
@pytest.mark.parametrize("lr", [1.0, 0.5])
def test_the_weights_are_those_of_gradients(tmp_path: Path, plasticity: str, lr: float) -> None:
    """And those of a mask over all pairs. Must fail when bounds are left to the end of the run, and when spikes of the
    post unit move nothing (tried, both)."""
    changes = {"connection__0__plasticity": PLASTICITIES[plasticity], "training__optimizer__lr": lr}
    if plasticity == "symmetric_inhibitory":
        changes["connection__0__weight"] = {"kind": "uniform", "low": -0.4, "high": 0.0}
    at_spikes, by_gradient = session(tmp_path, **changes), session(tmp_path, **changes)
    assert {*at_spikes._direct_updates} == {"source->exc", "exc->exc"}
    by_gradient._direct_updates = {}
    dense = session(tmp_path, connection__0__storage="dense", connection__1__storage="dense", **changes)
    start = {name: weight.detach().clone() for name, weight in at_spikes.network.weights.items()}
    for made in (at_spikes, by_gradient, dense):
        over(made)
    exact = 0 if lr == 1 and plasticity != "power_law" else 1e-6  # vectors of a power end in other roundings
    for name, weight in at_spikes.network.weights.items():
        assert torch.allclose(weight, by_gradient.network.weights[name], rtol=0, atol=exact)
        lists = at_spikes.network.connections[name].geometry.lists  # type: ignore[attr-defined]
        there = dense.network.weights[name][lists.post.long(), lists.pre.long()]
        assert torch.allclose(weight, there, rtol=0, atol=1e-5), name
        assert not torch.allclose(weight, start[name], atol=1e-3)
    traces: list[Any] = [made.continuation.traces for made in (at_spikes, by_gradient)]
    assert str(traces[0].plasticity) == str(traces[1].plasticity)


def test_a_stop_changes_nothing(tmp_path: Path) -> None:
    whole, cut = over(session(tmp_path)), session(tmp_path)
    while cut.step < 113:
        cut.advance()
    torch.save(cut.state_dict(), tmp_path / "cut.pt")
    gone_on = session(tmp_path)
    gone_on.load_state_dict(torch.load(tmp_path / "cut.pt", weights_only=True), tmp_path / "cut.pt")
    over(gone_on)
    for name, weight in whole.network.weights.items():
        assert torch.equal(weight, gone_on.network.weights[name])


@pytest.mark.filterwarnings("ignore:own. rule 'stdp' states by how much:neurosbd.errors.UsageWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"training__optimizer__momentum": 0.9},
        {"training__optimizer": {"kind": "sgd", "lr": 1.0, "weight_decay": 0.1}},
        {"simulation__examples": 2},
        {"simulation__update": "2 ms"},
        {"connection__0__plasticity": {"kind": "bcm"}, "connection__1__plastic": False},
        {"connection__0__constraints": [{"kind": "norm"}], "connection__1__storage": "dense"},
    ],
)
def test_what_moves_silent_synapses_goes_by_gradients(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = session(tmp_path, **settings)
    assert made._direct_updates == {}
    made.advance()
    made.advance()
    assert made.network.weights["source->exc"].grad is not None


def test_some_may_move_at_spikes_and_others_by_gradients(tmp_path: Path) -> None:
    """With the same weights as when all go by gradients."""
    settings: dict[str, Any] = {"connection__0__constraints": [{"kind": "norm"}]}
    some, none = session(tmp_path, **settings), session(tmp_path, **settings)
    assert {*some._direct_updates} == {"exc->exc"}
    none._direct_updates = {}
    for name, weight in over(some).network.weights.items():
        assert torch.equal(weight, over(none).network.weights[name])

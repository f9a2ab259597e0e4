"""NIR: what goes out runs spike for spike elsewhere, comes back as it was, and bad graphs are refused."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.pooling import AveragePool, MaxPool, SumPool
from neurosbd.errors import UsageError
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import ALIF, IF, LI, LIF, CubaLIF, Identity, ReLU
from neurosbd.surrogates import ArcTan, FastSigmoid

nir = pytest.importorskip("nir")

DT = 1e-4
STEPS = 250


def lif(**constants: Any) -> LIF:
    return LIF(**{"tau_mem": 2e-3, "reset": "to_value", **constants})


def cuba() -> CubaLIF:
    return CubaLIF(tau_mem=2e-3, tau_syn=1e-3, reset="to_value")


def built(
    populations: list[tuple[str, tuple[int, ...], Any]],
    connections: list[Connection],
    scale: float = 1.0,
    dt: float = DT,
) -> Network:
    people = [Population(*p) for p in populations]
    network = Network(people, connections, torch.Generator().manual_seed(0), dt)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.weights.values():
            weight.mul_(scale)
        for bias in network.biases.values():
            bias.copy_(0.02 * torch.randn(bias.shape, generator=generator))
    return network


def two_layers() -> Network:
    return built(
        [("input", (4,), None), ("hidden", (12,), lif()), ("output", (5,), lif(v_threshold=0.8))],
        [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense(bias=True))],
        0.8,
    )


def current_based() -> Network:
    return built(
        [("input", (4,), None), ("hidden", (12,), cuba()), ("output", (5,), cuba())],
        [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense())],
        0.2,
    )


def convolutional(pool: Any) -> Network:
    network = built(
        [("input", (2, 8, 8), None), ("maps", (3, 6, 6), lif()), ("output", (5,), lif())],
        [Connection("input", "maps", Conv2d(3, bias=True)), Connection("maps", "output", Dense(pool=pool))],
        0.3,
    )
    if isinstance(pool, AveragePool):
        with torch.no_grad():
            network.weights["maps->output"].mul_(pool.window**2)
    return network


def pooled(pool: Any) -> Network:
    """Pooling between synapses and neuron; two channels of a map, a bias."""
    network = built(
        [("input", (2, 8, 8), None), ("maps", (3, 3, 3), lif()), ("output", (5,), lif())],
        [Connection("input", "maps", Conv2d(3, bias=True, pool_drive=pool)), Connection("maps", "output", Dense())],
        0.3 if isinstance(pool, SumPool) else 1.0,
    )
    return network


def recurrent() -> Network:
    return built(
        [("input", (4,), None), ("hidden", (12,), lif()), ("output", (5,), lif())],
        [
            Connection("input", "hidden", Dense(bias=True)),
            Connection("hidden", "hidden", Dense(autapses=False)),
            Connection("hidden", "output", Dense(bias=True)),
        ],
        0.6,
    )


NETWORKS: dict[str, Callable[[], Network]] = {
    "two-layers": two_layers,
    "current-based": current_based,
    "conv-sum": lambda: convolutional(SumPool(2)),
    "conv-average": lambda: convolutional(AveragePool(2)),
    "conv-overlapping": lambda: convolutional(AveragePool(3, 1)),
    "recurrent": recurrent,
    "drive-sum": lambda: pooled(SumPool(2)),
    "drive-average": lambda: pooled(AveragePool(2)),
}


def inputs(network: Network, batch: int = 3) -> Tensor:
    size = network.populations["input"].size
    return (torch.rand(STEPS, batch, *size, generator=torch.Generator().manual_seed(2)) < 0.3).float()


def spikes(network: Network, x: Tensor) -> Tensor:
    shown: list[Tensor] = []
    with torch.no_grad():
        unroll(network, x, [lambda t, frame: shown.append(frame.activity[network.readout].value)])
    return torch.stack(shown)


def by_snntorch(graph: Any, x: Tensor) -> Tensor:
    pytest.importorskip("snntorch")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints and warns
        warnings.simplefilter("ignore")
        from snntorch.import_nir import import_from_nir

        module: Any = import_from_nir(graph)
    return _stepped(module, x)


def by_norse(graph: Any, x: Tensor) -> Tensor:
    pytest.importorskip("norse")
    logging.disable(logging.WARNING)  # about r of an IF, which it takes for 1, as it should
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import norse.torch

            return _stepped(norse.torch.from_nir(graph, dt=DT), x)
    finally:
        logging.disable(logging.NOTSET)


def _stepped(module: Any, x: Tensor) -> Tensor:
    state, shown = None, []
    with torch.no_grad():
        for now in x:
            value, state = module(now, state)
            shown.append(value)
    return torch.stack(shown)


@pytest.mark.parametrize("reader", [by_snntorch, by_norse])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_graph_runs_spike_for_spike_elsewhere(name: str, reader: Any) -> None:
    """250 steps, with a batch. Must fail when r is not folded or tau stays tau_mem (tried)."""
    network = NETWORKS[name]()
    x = inputs(network)
    mine = spikes(network, x)
    assert 0.02 < mine.mean() < 0.9
    assert torch.equal(reader(neurosbd.to_nir(network), x), mine)


def test_integrate_and_fire_runs_in_norse() -> None:
    network = built(
        [("input", (4,), None), ("output", (5,), IF(reset="to_value"))], [Connection("input", "output", Dense())], 0.3
    )
    x = inputs(network)
    assert torch.equal(by_norse(neurosbd.to_nir(network), x), spikes(network, x)) and spikes(network, x).any()


def test_the_graph_says_the_same_as_its_equations() -> None:
    """Oracle: NIR's own equation, tau v' = v_leak - v + r I by forward Euler, with every constant off its default."""
    per_unit = torch.tensor([1e-3, 2e-3, 3e-3, 4e-3, 5e-3])
    neuron = lif(tau_mem=per_unit, v_leak=0.2, v_reset=-0.3, v_threshold=0.7, r=0.5)
    network = built(
        [("input", (4,), None), ("output", (5,), neuron)], [Connection("input", "output", Dense(bias=True))]
    )
    graph = neurosbd.to_nir(network)
    node: Any = graph.nodes["n_output"]
    weights: Any = graph.nodes["w_input_output"]
    x = inputs(network, 1)
    v, shown = node.v_leak.astype(np.float64), []
    for now in x[:, 0].numpy():
        v = v + DT / node.tau * (node.v_leak - v + node.r * (weights.weight @ now + weights.bias))
        z = v > node.v_threshold
        v = np.where(z, node.v_reset, v)
        shown.append(z)
    assert np.mean(shown) > 0.02
    np.testing.assert_array_equal(np.array(shown), spikes(network, x)[:, 0].bool().numpy())


def test_forward_euler_to_the_letter_feels_a_current_one_step_later() -> None:
    """A step that takes I from before it: every spike of a CubaLIF comes exactly one step later than here, in snnTorch
    and in Norse. Must fail when the membrane reads the new current (tried)."""
    network = built(
        [("input", (4,), None), ("output", (5,), cuba())], [Connection("input", "output", Dense(bias=False))], 0.2
    )
    graph = neurosbd.to_nir(network)
    node: Any = graph.nodes["n_output"]
    weights: Any = graph.nodes["w_input_output"]
    x = inputs(network, 1)
    v, current, shown = np.zeros(5), np.zeros(5), []
    for now in x[:, 0].numpy():
        v = v + DT / node.tau_mem * (node.v_leak - v + node.r * current)
        current = current + DT / node.tau_syn * (node.w_in * (weights.weight @ now + weights.bias) - current)
        z = v > node.v_threshold
        v = np.where(z, node.v_reset, v)
        shown.append(z)
    mine = spikes(network, x)[:, 0].bool().numpy()
    assert mine.mean() > 0.02
    np.testing.assert_array_equal(np.array(shown)[1:], mine[:-1])
    assert (np.array(shown) != mine).any()


# There and back -----------------------------------------------------------------------------------


def everything() -> Network:
    """All that NIR can carry: masks, delays, pooling, a loop, a feedback, an identity in between, a leaky readout."""
    arctan = lif(surrogate=ArcTan(3.0), r=0.3, v_leak=0.1)
    return built(
        [
            ("input", (2, 8, 8), None),
            ("maps", (3, 6, 6), arctan),
            ("middle", (6,), Identity()),
            ("cells", (10,), CubaLIF(2e-3, 1e-3, reset="to_value", surrogate=FastSigmoid(5.0), r=0.7)),
            ("sums", (4,), IF(reset="to_value", v_threshold=3.0)),
            ("readout", (5,), LI(3e-3, 0.2)),
        ],
        [
            Connection("input", "maps", Conv2d(3, bias=True, sparsity=0.3), plastic=False),
            Connection("maps", "middle", Dense(pool=AveragePool(2))),
            Connection("middle", "cells", Dense(bias=True)),
            Connection("cells", "cells", Dense(autapses=False)),
            Connection("sums", "cells", Dense(), delay=3),
            Connection("cells", "sums", Dense(sparsity=0.5), delay=2),
            Connection("sums", "readout", Dense(bias=True)),
        ],
        0.5,
    )


@pytest.mark.parametrize("make", [*NETWORKS.values(), everything], ids=[*NETWORKS, "everything"])
@pytest.mark.parametrize("through_file", [False, True])
def test_back_from_nir_it_is_the_same_network(make: Any, through_file: bool, tmp_path: Path) -> None:
    network = make()
    graph: Any = neurosbd.to_nir(network)
    if through_file:
        nir.write(tmp_path / "net.nir", graph)
        graph = str(tmp_path / "net.nir")
    back = neurosbd.from_nir(graph)
    assert back.dt == network.dt and list(back.populations) == list(network.populations)
    assert list(back.connections) == list(network.connections)
    for name, connection in network.connections.items():
        same = back.connections[name]
        assert same.plastic == connection.plastic and same.geometry == connection.geometry
        assert back.delays[name] == network.delays[name]
        torch.testing.assert_close(back.weights[name], network.weights[name], rtol=1e-6, atol=1e-7)
        mine, theirs = network.present(connection), back.present(same)
        assert (mine is None) == (theirs is None) and (mine is None or torch.equal(mine, torch.as_tensor(theirs)))
    for old, new in zip(network.populations.values(), back.populations.values(), strict=True):
        assert type(old.neuron) is type(new.neuron) and old.size == new.size
        for field, value in vars(old.neuron).items() if old.neuron is not None else ():
            got = getattr(new.neuron, field)
            assert got == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), field
    x = inputs(network)
    torch.testing.assert_close(spikes(back, x), spikes(network, x), rtol=1e-4, atol=1e-5)
    if isinstance(network.populations[network.readout].neuron, LIF):
        assert torch.equal(spikes(back, x), spikes(network, x))


def test_facts_given_by_the_user_stay_in_the_graph(tmp_path: Path) -> None:
    graph = neurosbd.to_nir(two_layers(), {"rule": "sbd", "training": {"epochs": 3}})
    nir.write(tmp_path / "net.nir", graph)
    kept = nir.read(tmp_path / "net.nir").metadata
    assert kept["rule"] == "sbd" and kept["training"]["epochs"] == 3


def test_without_our_notes_a_loop_is_found_again() -> None:
    graph = neurosbd.to_nir(recurrent())
    for node in (graph, *graph.nodes.values()):
        node.metadata.clear()
    network = neurosbd.from_nir(graph)
    x = inputs(network)
    assert list(network.delays.values()).count(1) == 1
    assert torch.equal(spikes(network, x), spikes(recurrent(), x))


def foreign(*extra: Any, edges: Any = None) -> Any:
    """A graph as other tools write it: r in the neuron, no notes of ours."""
    tau, one = np.full(5, 2e-3), np.ones(5)
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "fc": nir.Linear(np.random.default_rng(0).normal(size=(5, 4))),
        "lif": nir.LIF(tau=tau, r=one * 8, v_leak=one * 0, v_threshold=one),
        "output": nir.Output({"output": np.array([5])}),
        **dict(extra),
    }
    return nir.NIRGraph(nodes, edges or [("input", "fc"), ("fc", "lif"), ("lif", "output")], type_check=False)


def test_a_graph_of_another_tool_is_read() -> None:
    """Nested graphs, r in the neuron, pooling between weights and neuron, and dt at will."""
    network = neurosbd.from_nir(foreign(), dt=2e-4)
    neuron = network.populations["lif"].neuron
    assert isinstance(neuron, LIF) and network.dt == 2e-4 and network.readout == "lif"
    assert (
        isinstance(neuron.tau_mem, float)
        and np.exp(-2e-4 / neuron.tau_mem) == pytest.approx(0.9)
        and neuron.r == pytest.approx(0.8)
    )
    inner = foreign()
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "sub": inner,
        "output": nir.Output({"output": np.array([5])}),
    }
    nested = nir.NIRGraph(nodes, [("input", "sub"), ("sub", "output")], type_check=False)
    x = inputs(network)
    assert torch.equal(spikes(neurosbd.from_nir(nested, 2e-4), x), spikes(network, x))
    one = np.ones((3, 3, 3))
    pooled = nir.NIRGraph.from_list(
        nir.Input({"input": np.array([2, 8, 8])}),
        nir.Conv2d((8, 8), np.random.default_rng(0).normal(size=(3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3)),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.LIF(tau=one * 2e-3, r=one * 20, v_leak=one * 0, v_threshold=one),
        nir.Flatten({"input": np.array([3, 3, 3])}, 0),
    )
    network = neurosbd.from_nir(pooled)
    assert network.readout == "output" and network.populations["output"].size == (27,)
    assert network.connections["input->lif"].geometry == Conv2d(3, bias=True, pool_drive=AveragePool())
    assert network.connections["input->lif"].plastic
    assert 0.02 < spikes(network, inputs(network)).mean() < 0.9


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (LIF(), r"'output'.*reset = 'subtract'.*use reset = 'to_value'"),
        (lif(refractory=1e-3), r"'output'.*refractory = 0.001 s"),
        (lif(reset="none"), "reset = 'none'"),
        (ALIF(), "NIR has no ALIF"),
        (ReLU(), "NIR has no ReLU"),
    ],
)
def test_what_nir_cannot_say_is_refused(neuron: Any, message: str) -> None:
    network = built([("input", (4,), None), ("output", (5,), neuron)], [Connection("input", "output", Dense())])
    with pytest.raises(UsageError, match=message):
        neurosbd.to_nir(network)


def test_connections_that_nir_cannot_say_are_refused() -> None:
    with pytest.raises(UsageError, match=r"maps->output.*MaxPool.*average and sum"):
        neurosbd.to_nir(convolutional(MaxPool(2)))
    with pytest.raises(UsageError, match=r"input->maps.*MaxPool.*average and sum"):
        neurosbd.to_nir(pooled(MaxPool(2)))
    uneven = lif(tau_mem=torch.linspace(1e-3, 2e-3, 108))
    network = built(
        [("input", (2, 8, 8), None), ("output", (3, 6, 6), uneven)], [Connection("input", "output", Conv2d(3))]
    )
    with pytest.raises(UsageError, match=r"'output'.*within a map.*one value per channel"):
        neurosbd.to_nir(network)
    loop = built([("input", (4,), None), ("output", (4,), Identity())], [
        Connection("input", "output", Dense()), Connection("output", "output", Dense())])  # fmt: skip
    with pytest.raises(UsageError, match=r"output->output.*identity"):
        neurosbd.to_nir(loop)


def node(**changes: Any) -> Any:
    one = np.ones(5)
    return nir.LIF(**{"tau": 2e-3 * one, "r": one, "v_leak": 0 * one, "v_threshold": one, **changes})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: foreign(("lif", nir.Threshold(np.ones(5)))), r"'lif': Threshold cannot be read without one LI or I"),
        (lambda: foreign(("lif", node(tau=np.full(5, 5e-5)))), r"'lif' \(LIF\): tau = 5e-05 s.*shorter dt"),
        (lambda: foreign(("lif", node(r=np.full(5, -1.0)))), r"'lif'.*r = -1"),
        (lambda: foreign(("lif", node(v_threshold=np.full(5, np.nan)))), r"'lif'.*v_threshold.*finite"),
        (lambda: foreign(("lif", node(v_threshold=np.zeros(5)))), r"'lif'.*v_threshold must be above v_reset"),
        (lambda: foreign(("fc", nir.Linear(np.full((5, 4), np.inf)))), r"'fc'.*finite"),
        (lambda: foreign(("fc", nir.Linear(np.ones((5, 3))))), r"input->lif.*\[5, 3\].*\[5, 4\]"),
        (lambda: foreign(edges=[("input", "fc"), ("fc", "lif"), ("lif", "nowhere")]), "'nowhere'.*no node"),
        (lambda: foreign(edges=[("fc", "lif"), ("lif", "output")]), "'fc'.*hears nothing"),
        (lambda: foreign(("more", nir.Output({"output": np.array([5])}))), "one Output.*2"),
    ],
)
def test_bad_graphs_get_one_clear_error(graph: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.from_nir(graph())


def _linked(file: Any) -> None:
    file["node/nodes/stolen"] = h5py.ExternalLink("/etc/hostname", "/")


def _huge(file: Any) -> None:
    file.create_dataset("node/nodes/huge", (2**20, 2**20), "f4", chunks=(1024, 1024))


def _endless(file: Any) -> None:
    file["node/nodes/again"] = file["node"]


def _external(file: Any) -> None:
    file.create_dataset("node/nodes/outside", (8,), "u1", external=[("/etc/hostname", 0, 8)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_linked, "link to another place"),
        (_huge, "more than the file can hold"),
        (_endless, "nested deeper"),
        (_external, "other files"),
        (lambda file: file.__delitem__("node/nodes/hidden/tau"), r"'hidden' \(LIF\): its tau is missing"),
        (lambda file: file.__delitem__("node"), "without a graph"),
    ],
)
def test_hostile_files_are_refused_before_they_are_read(spoil: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    nir.write(path, neurosbd.to_nir(two_layers()))
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(UsageError, match=message) as caught:
        neurosbd.from_nir(path)
    assert "net.nir" in str(caught.value)


def test_what_is_no_file_of_nir_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        neurosbd.from_nir(tmp_path / "none.nir")
    (tmp_path / "text.nir").write_text("hello")
    with pytest.raises(UsageError, match="no HDF5 file"):
        neurosbd.from_nir(tmp_path / "text.nir")


def test_an_unknown_surrogate_is_said_aloud() -> None:
    graph = neurosbd.to_nir(two_layers())
    graph.nodes["hidden"].metadata["neurosbd"]["surrogate"] = {"kind": "mystery"}
    with pytest.warns(UserWarning, match="'hidden'.*'mystery'"):
        neurosbd.from_nir(graph)

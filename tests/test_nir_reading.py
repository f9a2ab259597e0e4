"""NIR of other tools and of nobody's making: what is meant is read, what is doubtful is said, damage is refused."""

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import neurosbd
from neurosbd.connections import Conv2d
from neurosbd.connections.pooling import AveragePool, SumPool
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.neurons import IF, LIF, CubaLIF
from tests.test_nir import everything, foreign, inputs, spikes, two_layers

nir = pytest.importorskip("nir")


def source(*size: int) -> Any:
    return nir.Input({"input": np.array(size)})


def sink(*size: int) -> Any:
    return nir.Output({"output": np.array(size)})


def chain(*nodes: Any, first: tuple[int, ...] = (4,), last: tuple[int, ...] = (5,)) -> Any:
    """Input, nodes n0, n1, ..., Output, one after the other."""
    named = {"input": source(*first), **{f"n{i}": node for i, node in enumerate(nodes)}, "output": sink(*last)}
    names = list(named)
    return nir.NIRGraph(named, list(itertools.pairwise(names)), type_check=False)


def affine(post: int = 5, pre: int = 4) -> Any:
    return nir.Affine(np.random.default_rng(0).normal(size=(post, pre)), np.zeros(post))


def neuron(kind: str, shape: tuple[int, ...], **changes: float) -> Any:
    values = {"tau": 2e-3, "tau_mem": 2e-3, "tau_syn": 1e-3, "r": 20.0, "w_in": 10.0, "v_leak": 0.0} | changes
    keys = {
        "LIF": ("tau", "r", "v_leak"), "IF": ("r",), "CubaLIF": ("tau_mem", "tau_syn", "r", "w_in", "v_leak"),
        "LI": ("tau", "r", "v_leak"),
    }[kind]  # fmt: skip
    more = () if kind == "LI" else ("v_threshold", "v_reset")
    values = {"v_threshold": 1.0, "v_reset": 0.0, **values}
    return getattr(nir, kind)(**{key: np.full(shape, values[key]) for key in (*keys, *more)})


# One value for all units --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "IF", "LI"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_value_holds_for_all_units_that_arrive(kind: str, shape: tuple[int, ...]) -> None:
    """Behind weights, at the input, behind pooled maps, in a loop: the network of the full arrays.

    Must fail when the size is taken from the constants (tried).
    """
    r = 1e4 if kind == "IF" else 20.0
    full, one = (neuron(kind, s, r=r) for s in ((5,), shape))
    x = inputs(neurosbd.from_nir(chain(affine(), full)))
    assert torch.equal(*(spikes(neurosbd.from_nir(chain(affine(), n)), x) for n in (full, one)))
    assert neurosbd.from_nir(chain(one, first=(4,), last=(4,))).populations["n0"].size == (4,)
    kernel = nir.Conv2d((8, 8), np.ones((3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3))
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    network = neurosbd.from_nir(chain(kernel, pool, one, first=(2, 8, 8), last=(3, 3, 3)))
    assert network.populations["n2"].size == (3, 3, 3)
    loop = chain(affine(), one)
    loop.nodes["back"] = nir.Linear(np.ones((5, 5)))
    loop.edges[:] = [("back", "n1"), *loop.edges, ("n1", "back")]
    assert neurosbd.from_nir(loop).populations["n1"].size == (5,)


def test_constants_per_channel_are_spread_over_the_map_and_others_refused() -> None:
    kernel = nir.Conv2d((8, 8), np.ones((3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3))
    per_channel = neuron("LIF", (3, 1, 1))
    per_channel.v_threshold = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    network = neurosbd.from_nir(chain(kernel, per_channel, first=(2, 8, 8), last=(3, 6, 6)))
    made = network.populations["n1"].neuron
    assert isinstance(made, LIF) and isinstance(made.v_threshold, torch.Tensor)
    assert made.v_threshold.shape == (3, 6, 6) and (made.v_threshold[1] == 2).all()
    with pytest.raises(UsageError, match=r"'n1' \(LIF\).*\[1, 1, 3\].*\[3, 6, 6\] arrives"):
        neurosbd.from_nir(chain(kernel, neuron("LIF", (1, 1, 3)), first=(2, 8, 8), last=(3, 6, 6)))


def test_what_norse_writes_goes_spike_for_spike(tmp_path: Path) -> None:
    """Default cells: scalar constants, a batch axis in the Input, and (unless dt = 1) time constants times its dt."""
    with warnings.catch_warnings():  # of third parties
        warnings.simplefilter("ignore")
        norse: Any = pytest.importorskip("norse.torch")
    torch.manual_seed(0)
    module = norse.SequentialState(nn.Linear(4, 6), norse.LIFBoxCell(), nn.Linear(6, 3), norse.LIFBoxCell())
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, multiplied = (norse.to_nir(module, torch.rand(1, 4), dt=dt) for dt in (1, 1e-3))
    nir.write(tmp_path / "net.nir", graph, compression=None)
    network = neurosbd.from_nir(tmp_path / "net.nir", dt=1e-3)
    x, state, theirs = inputs(network), None, []
    for now in x:
        value, state = module(now, state)
        theirs.append(value.detach())
    assert torch.equal(spikes(network, x), torch.stack(theirs)) and torch.stack(theirs).mean() > 0.02
    with pytest.warns(UsageWarning, match=r"1e-05 to 1e-05 s.*Norse 1.1.*Taken for 0.01 to 0.01 s.*dt=1"):
        scaled = neurosbd.from_nir(multiplied, dt=1e-3)
    torch.testing.assert_close(spikes(scaled, x), spikes(network, x))


def test_a_graph_that_stays_silent_at_this_dt_is_said_to_be(tmp_path: Path) -> None:
    """IF with r = 1 per step, as sinabs writes it: 1e-4 of that at the default dt. With dt = 1 nothing is said."""
    graph = chain(affine(), neuron("IF", (), r=1.0))
    with pytest.warns(UsageWarning, match=r"'n1' \(IF\): with r = 1 and dt = 0.0001 s.*steps.*from_nir\(graph, dt=1\)"):
        network = neurosbd.from_nir(graph)
    x = inputs(network)
    assert not spikes(network, x).any()
    assert spikes(neurosbd.from_nir(graph, dt=1), x).mean() > 0.02
    nir.write(tmp_path / "net.nir", graph, compression=None)  # nir packs no scalars
    with pytest.warns(UsageWarning, match="'n1'"):
        neurosbd.from_nir(tmp_path / "net.nir")


# Pooling between weights and neuron ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SumPool2d", "AvgPool2d"])
def test_pooling_before_a_neuron_belongs_to_the_drive(kind: str) -> None:
    """Conv, pool, LIF: one plastic connection; steps like the same graph with the pooling written into the weights."""
    kernel = nir.Conv2d((8, 8), np.random.default_rng(0).normal(size=(3, 2, 3, 3)), 1, 0, 1, 1, 0.1 * np.ones(3))
    pool = getattr(nir, kind)(*(np.array([side, side]) for side in (2, 2, 0)))
    network = neurosbd.from_nir(chain(kernel, pool, neuron("LIF", ()), first=(2, 8, 8), last=(3, 3, 3)))
    (connection,) = network.connections.values()
    shape = {"SumPool2d": SumPool(), "AvgPool2d": AveragePool()}[kind]
    assert connection.geometry == Conv2d(3, bias=True, pool_drive=shape) and connection.plastic
    x = inputs(network)
    mine, v, shown = spikes(network, x).double(), torch.zeros(3, 3, 3, 3).double(), []
    weight, bias = torch.from_numpy(kernel.weight), torch.from_numpy(kernel.bias)
    for now in x.double():
        drive = nn.functional.avg_pool2d(nn.functional.conv2d(now, weight, bias), 2)
        v = v + 1e-4 / 2e-3 * (20 * drive * (4 if kind == "SumPool2d" else 1) - v)
        shown.append((v > 1).double())
        v = v * (1 - shown[-1])
    assert torch.equal(mine, torch.stack(shown)) and 0.02 < mine.mean() < 0.9


# Each mistake has its sentence --------------------------------------------------------------------


def _edges(graph: Any, edges: list[tuple[str, str]]) -> Any:
    graph.edges[:] = edges
    return graph


def _conv(**changes: Any) -> Any:
    values = {"weight": np.ones((3, 2, 3, 3)), "stride": 1, "padding": 0, "dilation": 1, "groups": 1} | changes
    node = nir.Conv2d(None, values["weight"], 1, 0, 1, 1, changes.get("bias", np.zeros(3)))
    for key, value in values.items():
        setattr(node, key, value)
    return chain(node, neuron("LIF", ()), first=(2, 8, 8), last=(3, 6, 6))


def _delayed(delay: Any) -> Any:
    return chain(nir.Delay(np.asarray(delay)), affine(), neuron("LIF", (5,)))


def _set(graph: Any, name: str, **values: Any) -> Any:
    for key, value in values.items():
        setattr(graph.nodes[name], key, value)
    return graph


PLAIN = lambda: chain(affine(), neuron("LIF", (5,)))  # noqa: E731
MISTAKES: list[tuple[Any, str]] = [
    (lambda: 42, r"graph must be a nir.NIRGraph or the path of a file, got int"),
    (lambda: chain(affine(), neuron("CubaLIF", (5,), w_in=-1)), r"'n1' \(CubaLIF\): w_in = -1; legal is > 0"),
    (lambda: chain(affine(), neuron("CubaLIF", (5,), r=0)), r"'n1' \(CubaLIF\): r = 0; legal is > 0"),
    (lambda: chain(affine(), neuron("CubaLIF", (5,), tau_syn=1e-5)), r"'n1' \(CubaLIF\): tau_syn = 1e-05 s"),
    (lambda: _set(PLAIN(), "n1", tau=np.ones(4)), r"'n1' \(LIF\).*different shapes: tau \[4\], r \[5\]"),
    (lambda: _set(PLAIN(), "n1", tau="long"), r"'n1' \(LIF\): its tau is no array of numbers, but str 'long'"),
    (lambda: _set(PLAIN(), "n0", weight=np.full((5, 4), np.nan)), r"'n0' \(Affine\): weight has values.*not finite"),
    (lambda: _set(PLAIN(), "n0", bias=np.zeros(3)), r"'n0' \(Affine\): its bias is \[3\]; legal is \[5\]"),
    (lambda: _set(PLAIN(), "n0", weight=np.ones((5, 4, 1))), r"'n0' \(Affine\): its weight is \[5, 4, 1\]"),
    (lambda: _set(PLAIN(), "n0", weight=np.ones((5, 4), complex)), r"'n0' \(Affine\): its weight is no array"),
    (lambda: chain(affine(), neuron("LIF", (6,))), r"'n0' \(Affine\), connection 'input->n1': its weight.*\[6, 4\]"),
    (lambda: chain(affine(), neuron("LIF", (5,)), first=(3,)), r"'n0' \(Affine\).*population of \[3\].*\[5, 3\]"),
    (lambda: chain(affine(), neuron("LIF", (5,)), first=(2, 3)), r"'input' \(Input\): its shape is \[2, 3\]; legal"),
    (lambda: chain(affine(), neuron("LIF", (5,)), first=(0,)), r"'input' \(Input\): its shape is \[0\]"),
    (lambda: chain(affine(), neuron("LIF", (5,)), first=(2**40,)), r"'input' \(Input\).*more than 268,435,456 units"),
    (lambda: _set(PLAIN(), "input", input_type={"x": np.array([4])}), r"'input' \(Input\): has the ports \['x'\]"),
    (lambda: _set(PLAIN(), "input", input_type={"input": None}), r"'input' \(Input\): states no shape"),
    (lambda: _set(PLAIN(), "input", input_type={"input": np.array([4.5])}), r"'input' \(Input\): shape = 4.5; legal"),
    (lambda: _edges(PLAIN(), [("input", "n0"), ("n0", "n1")]), r"'output' \(Output\) hears nothing"),
    (
        lambda: nir.NIRGraph(
            {"input": source(4), "a": affine(), "lif": neuron("LIF", ())}, [("input", "a"), ("a", "lif")],
            type_check=False,
        ),
        r"one Output, this graph has 0.*from \['lif'\]: join it to a nir.Output",
    ),
    (lambda: chain(affine(), nir.Threshold(np.ones(5))), r"'n1': Threshold cannot be read"),
    (lambda: chain(affine(), affine(5, 5), first=(4,)).__class__, r"graph must be a nir.NIRGraph"),
    (
        lambda: _edges(chain(affine(4, 4), affine(4, 4), last=(4,)), [("input", "n0"), ("n0", "n1"), ("n1", "n0"),
                                                                      ("n1", "output")]),
        r"'n0' sums|loop",
    ),
    (lambda: _delayed(np.full(4, 1.5e-4)), r"'n0' \(Delay\): delay = 0.00015 s is 1.5 steps of dt = 0.0001 s"),
    (lambda: _delayed(np.array([1e-4, 2e-4, 1e-4, 1e-4])), r"'n0' \(Delay\).*1, 2 steps.*one delay for all"),
    (lambda: _delayed(-1e-4), r"'n0' \(Delay\): delay = -0.0001 s"),
    (lambda: _delayed(1e9), r"'n0' \(Delay\).*0 to 65,536 whole steps"),
    (lambda: _conv(groups=2), r"'n0' \(Conv2d\): groups = 2; legal is 1"),
    (lambda: _conv(dilation=(2, 2)), r"'n0' \(Conv2d\): dilation = \(2, 2\); legal is 1"),
    (lambda: _conv(stride=0), r"'n0': stride = 0; legal is 1 to"),
    (lambda: _conv(stride=(1, 2)), r"'n0': stride = \[1, 2\]; legal is a square one"),
    (lambda: _conv(padding=2**40), r"'n0': padding = 1099511627776; legal is 0 to"),
    (lambda: _conv(padding="reflect"), r"'n0' \(Conv2d\): padding = 'reflect' with kernel 3"),
    (lambda: _conv(padding="same", stride=2), r"'n0' \(Conv2d\): padding = 'same' with kernel 3 and stride 2"),
    (lambda: _conv(weight=np.ones((3, 2, 9, 9))), r"'n0' \(Conv2d\): a kernel of 9 does not fit.*\[2, 8, 8\]"),
    (lambda: _conv(weight=np.ones((3, 3, 3, 3))), r"'n0' \(Conv2d\).*\[3, 3, 3, 3\].*\[3, 2, 3, 3\]"),
    (
        lambda: chain(nir.SumPool2d(*(np.array([s, s]) for s in (9, 9, 0))), neuron("LIF", ()), first=(2, 8, 8),
                      last=(2, 1, 1)),
        r"population 'input': SumPool.window is 9, larger than the map 8x8",
    ),
    (
        lambda: chain(nir.Flatten({"input": np.array([2, 3, 3])}, 0, 1), affine(5, 18), first=(2, 3, 3)),
        r"'n0' \(Flatten\): flattens axes 0 to 1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_a_mistake_has_one_sentence_that_names_the_node_and_the_field(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.from_nir(make())


def test_a_long_chain_ends_in_a_sentence() -> None:
    """A thousand convolutions in a row without a neuron, from the last on: not in a RecursionError."""
    kernels = [nir.Conv2d(None, np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1)) for _ in range(1500)]
    graph = chain(*kernels, first=(1, 2, 2), last=(1, 2, 2))
    graph.nodes = dict(reversed(graph.nodes.items()))
    with pytest.raises(UsageError, match="makes no network"):
        neurosbd.from_nir(graph)


# Hostile files ------------------------------------------------------------------------------------


def _written(tmp_path: Path, spoil: Any = None, graph: Any = None) -> Path:
    path = tmp_path / "net.nir"
    nir.write(path, graph or neurosbd.to_nir(two_layers()))
    if spoil is not None:
        with h5py.File(path, "a") as file:
            spoil(file)
    return path


def _replaced(name: str, value: Any, **how: Any) -> Any:
    def spoil(file: Any) -> None:
        del file[name]
        file.create_dataset(name, data=value, **how)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_replaced("node/nodes/hidden/tau", "long"), r"'hidden' \(LIF\): its tau is text"),
        (_replaced("node/nodes/hidden/tau", np.ones(7)), r"'hidden' \(LIF\).*same shape.*r \[12\], tau \[7\]"),
        (_replaced("node/nodes/hidden/type", "Mystery"), r"'hidden' is of type 'Mystery', which nir does not have"),
        (_replaced("node/nodes/hidden/type", "NIRNode"), r"'hidden'"),
        (_replaced("node/nodes/hidden/type", "dict2NIRNode"), r"'hidden' is of type 'dict2NIRNode'"),
        (_replaced("node/type", "LIF"), r"of type 'LIF'.*needed: nodes, edges"),
        (_replaced("node/edges", np.ones((3, 3))), r"edges of shape \[3, 3\]"),
        (_replaced("node/nodes/hidden/extra", 1.0), r"'hidden' \(LIF\): has 'extra', which is no field of it"),
        (_replaced("node/nodes/w_input_hidden/weight", np.ones((12, 4), complex)), r"complex128; legal are numbers"),
        (_replaced("node/nodes/hidden/tau", np.ones(12), compression="gzip", scaleoffset=2), "a filter that NIR"),
        (_replaced("node/edges", np.full((40000, 2), b"a" * 16)), r"claims 80,000 texts"),
    ],
)
def test_fields_of_a_file_are_checked_before_nodes_are_made(spoil: Any, message: str, tmp_path: Path) -> None:
    def forgiving(file: Any) -> None:
        if "node/nodes/hidden/extra" not in file:
            file["node/nodes/hidden/extra"] = 0.0
        spoil(file)
        if "extra" not in message:
            del file["node/nodes/hidden/extra"]

    path = _written(tmp_path, forgiving)
    with pytest.raises(UsageError, match=message) as caught:
        neurosbd.from_nir(path)
    assert str(caught.value).startswith(str(path))


def _at(data: bytes, needle: bytes, offset: int, value: bytes) -> bytes:
    place = data.index(needle) + offset
    return data[:place] + value + data[place + len(value) :]


def test_damaged_heaps_and_lengths_are_refused_for_their_cause(tmp_path: Path) -> None:
    """A heap whose sizes lead in a circle (HDF5 never returns from it), and a text of 2 GiB (which HDF5 asks for)."""
    path = _written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(_at(whole, b"GCOL", 16 + 8, bytes(8)))
    with pytest.raises(UsageError, match=r"heap at byte \d+.*nir.write"):
        neurosbd.from_nir(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("node/type", data="NIRGraph", dtype=h5py.string_dtype())
        start = file["node/type"].id.get_offset()
    data = bytearray(path.read_bytes())
    assert start is not None and int.from_bytes(data[start : start + 4], "little") == 8
    data[start + 3] = 0x80
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"'/node/type' claims more than 1,048,576 entries"):
        neurosbd.from_nir(path)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nir")
    for path in (tmp_path, tmp_path / "pipe.nir"):
        with pytest.raises(UsageError, match="not a file; refused without opening it"):
            neurosbd.from_nir(path)


MUTANTS = """
import random, sys, warnings
from pathlib import Path
import neurosbd
from neurosbd.errors import UsageError
warnings.simplefilter("ignore")
folder, outcomes = Path(sys.argv[1]), {"read": 0, "refused": 0}
whole = [path.read_bytes() for path in sorted(folder.glob("whole*.nir"))]
for seed in range(int(sys.argv[2])):
    draw = random.Random(seed)
    data = bytearray(draw.choice(whole))
    for _ in range(draw.choice((1, 1, 1, 4))):
        place, how = draw.randrange(len(data)), draw.random()
        if how < 0.6:
            data[place] ^= 1 << draw.randrange(8)
        elif how < 0.8:
            data[place : place + 8] = draw.choice((2**64 - 1, 2**63, len(data), 0, 2**32)).to_bytes(8, "little")
        elif how < 0.9:
            data[place : place + 64] = data[draw.randrange(len(data)) :][:64]
        else:
            del data[max(place, 1) :]
    (folder / "mutant.nir").write_bytes(data)
    try:
        neurosbd.from_nir(folder / "mutant.nir")
        outcomes["read"] += 1
    except UsageError as problem:
        assert str(folder) in str(problem), problem
        outcomes["refused"] += 1
print(outcomes["read"], outcomes["refused"])
"""


def test_no_damage_hangs_or_crashes_or_leaves_a_traceback(tmp_path: Path) -> None:
    """150 seeded mutations of three files, in a process of their own with a limit of time."""
    for number, made in enumerate((neurosbd.to_nir(everything()), neurosbd.to_nir(two_layers()), foreign())):
        nir.write(tmp_path / f"whole{number}.nir", made)
    done = subprocess.run(
        [sys.executable, "-c", MUTANTS, str(tmp_path), "150"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == 150 and refused > 25


def test_kinds_of_neurons_are_read_as_before() -> None:
    """r in the neuron, of every kind, in the numbers of the equations."""
    made = {
        kind: neurosbd.from_nir(chain(affine(), neuron(kind, (5,)))).populations["n1"].neuron
        for kind in ("LIF", "CubaLIF")
    }
    lif, cuba = made["LIF"], made["CubaLIF"]
    assert isinstance(lif, LIF) and lif.r == pytest.approx(20 * 1e-4 / 2e-3)
    assert isinstance(cuba, CubaLIF) and cuba.r == pytest.approx(20 * 1e-4 / 2e-3 * 10 * 1e-4 / 1e-3)
    integrate = neurosbd.from_nir(chain(affine(), neuron("IF", (5,), r=1e4))).populations["n1"].neuron
    assert isinstance(integrate, IF) and integrate.r == pytest.approx(1.0)

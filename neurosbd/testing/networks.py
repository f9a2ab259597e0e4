"""Small networks that checks and tests share, in float64."""

from itertools import pairwise

import torch

from neurosbd.axes import VECTOR_MAP, VECTORS
from neurosbd.connections import CONNECTIONS, Conv2d, Dense, Local2d, Vector
from neurosbd.connections.pooling import AveragePool
from neurosbd.constraints import Nonnegative
from neurosbd.distributions import OppositeSigns
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import IF, NEURONS, CorInfoMax, CtReLU


def mlp(sizes: list[int], neuron: str = "tanh", bias: bool = True, sparsity: float = 0.0) -> Network:
    """A float64 perceptron with an identity readout; units of 'ct_relu' are vectors with a component per output,
    those of 'corinfomax' settle, and with 'first_spike' there is but a readout that adds up its inputs and spikes."""
    if neuron == "corinfomax":
        return _settling(sizes, bias, sparsity)
    if neuron == "ct_relu":
        return _vectors(sizes, bias, sparsity)
    if neuron == "first_spike":
        populations = [Population("input", (sizes[0],), None), Population("output", (sizes[-1],), IF(reset="none"))]
        connections = [Connection("input", "output", Dense(sparsity=sparsity))]
        return Network(populations, connections, torch.Generator().manual_seed(0)).double()
    names = ["input", *(f"hidden{i}" for i in range(1, len(sizes) - 1)), "output"]
    populations = [Population("input", (sizes[0],), None)]
    populations += [Population(n, (s,), NEURONS[neuron]()) for n, s in zip(names[1:-1], sizes[1:-1], strict=True)]
    populations += [Population("output", (sizes[-1],), NEURONS["identity"]())]
    connections = [Connection(pre, post, Dense(bias=bias, sparsity=sparsity)) for pre, post in pairwise(names)]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def _settling(sizes: list[int], bias: bool, sparsity: float) -> Network:
    """The perceptron whose populations also hear, at their apical dendrites, the one above, and settle."""
    names = ["input", *(f"hidden{i}" for i in range(1, len(sizes) - 1)), "output"]
    populations = [Population("input", (sizes[0],), None)]
    populations += [Population(n, (s,), CorInfoMax()) for n, s in zip(names[1:-1], sizes[1:-1], strict=True)]
    populations += [Population("output", (sizes[-1],), CorInfoMax(), role="readout")]
    dense = Dense(bias=bias, sparsity=sparsity)
    connections = [Connection(pre, post, dense, compartment="basal") for pre, post in pairwise(names)]
    connections += [Connection(post, pre, dense, compartment="apical") for pre, post in pairwise(names[1:])]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def _vectors(sizes: list[int], bias: bool, sparsity: float) -> Network:
    """The perceptron whose hidden units are vectors, with nonnegative weights behind the first layer."""
    names, components = ["input", *(f"hidden{i}" for i in range(1, len(sizes) - 1)), "output"], sizes[-1]
    populations = [Population("input", (sizes[0],), None)]
    for name, size in zip(names[1:-1], sizes[1:-1], strict=True):
        populations.append(Population(name, (size, components), CtReLU(OppositeSigns()), VECTORS))
    populations.append(Population("output", (components,), NEURONS["identity"]()))
    connections = [
        Connection(pre, post, Vector(bias, sparsity), constraints=() if pre == "input" else (Nonnegative(),))
        for pre, post in pairwise(names)
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def cnn(neuron: str = "relu") -> Network:
    """A float64 convolutional network on 2x8x8 maps, with stride, padding, pooling and biases."""
    populations = [
        Population("input", (2, 8, 8), None),
        Population("conv1", (4, 8, 8), NEURONS[neuron]()),
        Population("conv2", (6, 2, 2), NEURONS[neuron]()),
        Population("fc", (5,), NEURONS[neuron]()),
        Population("output", (3,), NEURONS["identity"]()),
    ]
    connections = [
        Connection("input", "conv1", Conv2d(3, padding=1, bias=True)),
        Connection("conv1", "conv2", Conv2d(3, stride=2, padding=1, pool=AveragePool())),
        Connection("conv2", "fc", Dense(bias=True)),
        Connection("fc", "output", Dense(bias=True)),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def lc(neuron: str = "relu", sparsity: float = 0.0) -> Network:
    """A float64 locally connected network on 2x8x8 maps, with stride, padding, pooling and biases."""
    populations = [
        Population("input", (2, 8, 8), None),
        Population("first", (4, 8, 8), NEURONS[neuron]()),
        Population("second", (6, 2, 2), NEURONS[neuron]()),
        Population("output", (3,), NEURONS["identity"]()),
    ]
    connections = [
        Connection("input", "first", Local2d(3, padding=1, bias=True, sparsity=sparsity)),
        Connection("first", "second", Local2d(3, 2, 1, AveragePool(), sparsity=sparsity)),
        Connection("second", "output", Dense(bias=True)),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


def deep(kind: str, outputs: int = 4) -> Network:
    """A float64 network on 2x4x4 maps whose two hidden layers are reached by one kind of connection."""
    of_vectors = ((3, 3, 4, 4), (4, 3, 2, 2))
    sizes = {
        "dense": ((6,), (5,)), "vector": ((6, 3), (5, 3)), "vector_conv2d": of_vectors, "vector_local2d": of_vectors,
    }  # fmt: skip
    first, second = sizes.get(kind, ((3, 4, 4), (4, 2, 2)))
    axes = {"vector": VECTORS, "vector_conv2d": VECTOR_MAP, "vector_local2d": VECTOR_MAP}.get(kind)
    without_kernels = kind in ("dense", "vector")
    own = {} if without_kernels else {"kernel": 3, "padding": 1}
    pool = {} if without_kernels else {"pool": AveragePool()}
    populations = [
        Population("input", (2, 4, 4), None),
        Population("first", first, NEURONS["tanh"](), axes),
        Population("second", second, NEURONS["tanh"](), axes),
        Population("output", (outputs,), NEURONS["identity"]()),
    ]
    connections = [
        Connection("input", "first", CONNECTIONS[kind](**own, bias=True)),
        Connection("first", "second", CONNECTIONS[kind](**own, **pool)),
        Connection("second", "output", Dense(bias=True)),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()

"""Locally connected maps of vectors, and global error vector broadcasting in them, in float64."""

import pytest
import torch
from torch import Tensor

from neurosbd.axes import VECTOR_MAP
from neurosbd.connections import INITIALISERS, Local2d, Vector, VectorConv2d, VectorLocal2d
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Nonnegative
from neurosbd.distributions import OppositeSigns
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS, CtReLU
from neurosbd.rules import RULES
from tests.contracts.tables import seeded

K = 3
LABELS = torch.tensor([0, 2, 1, 1])


def vnn(negative: bool = False) -> Network:
    """A map of numbers -> two locally connected maps of vectors, pooled between -> one vector; ON/OFF at the start."""
    gate = CtReLU(OppositeSigns())
    sizes = {"local1": (4, K, 6, 6), "local2": (6, K, 3, 3), "fc": (8, K, 1, 1)}
    populations = [
        Population("input", (1, 6, 6), None),
        *(Population(name, size, gate, VECTOR_MAP) for name, size in sizes.items()),
        Population("output", (K,), NEURONS["identity"]()),
    ]
    later = "kaiming_normal" if negative else "on_off"
    geometries = [
        VectorLocal2d(3, padding=1, bias=True, weight=INITIALISERS["paired"]()),
        VectorLocal2d(3, padding=1, bias=True, weight=INITIALISERS[later](), pool=AveragePool()),
        VectorLocal2d(3, bias=True, weight=INITIALISERS[later]()),
        Vector(True, weight=INITIALISERS[later]()),
    ]
    ends = [population.name for population in populations]
    connections = [
        Connection(pre, post, geometry, constraints=() if negative or not i else (Nonnegative(),))
        for i, (pre, post, geometry) in enumerate(zip(ends[:-1], ends[1:], geometries, strict=True))
    ]
    return Network(populations, connections, seeded()).double()


def images(*size: int) -> Tensor:
    return torch.randn(4, *size, dtype=torch.float64, generator=seeded())


def gradients(network: Network, rule: str, batch: Batch) -> dict[str, Tensor]:
    network.zero_grad()
    Learner(network, RULES[rule](), LOSSES["cross_entropy"](), seeded()).learn(batch)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pre", [(2, 6, 6), (2, K, 6, 6)])
def test_of_equal_kernels_it_is_a_convolution(pre: tuple[int, ...]) -> None:
    """Drive and adjoint are its own, its gradient adds up over positions to that of the shared kernel.

    Must fail when components and channels are taken for each other (tried), or rows of a kernel for columns.
    """
    shared, local = VectorConv2d(3, padding=1, pool=AveragePool()), VectorLocal2d(3, padding=1, pool=AveragePool())
    post, x = (4, K, 3, 3), images(*pre)
    kernels = Synapses(shared.start(shared.weight_shape(pre, post), post, seeded()).weight.double(), None)
    there = 1 if len(pre) == 4 else 2
    own = kernels.weight.unflatten(there - 1, (kernels.weight.shape[there - 1], 1, 1))
    own = own.expand(local.weight_shape(pre, post)).contiguous()
    assert own.shape == local.start(own.shape, post, seeded()).weight.shape
    arriving, own_synapses = shared.carry(x), Synapses(own, None)
    drive = shared.drive(kernels, arriving)
    torch.testing.assert_close(local.drive(own_synapses, local.carry(x)), drive)
    torch.testing.assert_close(local.back(own_synapses, drive, x), shared.back(kernels, drive, x))
    found = local.outer(own_synapses, drive, local.carry(x)).weight.sum((there, there + 1))
    torch.testing.assert_close(found, shared.outer(kernels, drive, arriving).weight)


def test_every_component_has_the_field_of_a_plain_map() -> None:
    """Between vectors each hears its own through the same kernels. Must fail when components are mixed (tried)."""
    local, plain, x = VectorLocal2d(3, bias=True), Local2d(3), images(2, K, 5, 5)
    post = (4, K, 3, 3)
    synapses = local.start(local.weight_shape(x.shape[1:], post), post, seeded())
    drive = local.drive(Synapses(synapses.weight.double(), None), local.carry(x))
    for k in range(K):
        alone = plain.drive(Synapses(synapses.weight.double(), None), plain.carry(x[:, :, k]))
        torch.testing.assert_close(drive[:, :, k], alone)
    assert synapses.bias is not None and synapses.bias.shape == post


def test_signs_agree_with_backprop_in_every_entry() -> None:
    """G2: nothing is summed over positions, so where no weight is negative no sign differs, unlike in a convolution.

    Must fail when weights have both signs (tried: below).
    """
    for negative in (False, True):
        network, x, wrong = vnn(negative), images(1, 6, 6), 0
        for example in range(4):
            batch = Batch(x[None, example : example + 1], LABELS[example : example + 1])
            exact, found = gradients(network, "bp", batch), gradients(network, "gevb", batch)
            assert exact.keys() == found.keys()
            wrong += sum(int((exact[name] * found[name] < -1e-14).sum()) for name in exact)
        assert (wrong > 0) is negative


def test_pairs_are_opposite_at_the_start() -> None:
    """G4: channels of a pair are opposite vectors at every position. Must fail when pairs are drawn one by one
    (tried: below)."""
    for paired in (True, False):
        network, x = vnn(negative=not paired), images(1, 6, 6)
        frame = network.step(network.init(x), x)
        for name in ("local1", "local2", "fc") if paired else ("local2", "fc"):
            value = frame.activity[name].value
            assert torch.allclose(value[:, 1::2], -value[:, ::2]) is paired


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a vector_local2d connection joins a map"):
        VectorLocal2d(3).weight_shape((2, 5, 6, 6), (4, K, 4, 4))

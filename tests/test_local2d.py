"""Locally connected maps against convolutions, against patches unfolded by torch, and in whole networks."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.connections import INITIALISERS, POOLINGS, Conv2d, Dense, Local2d
from neurosbd.connections import local2d as module
from neurosbd.connections.synapses import Synapses
from neurosbd.errors import UsageError
from neurosbd.interchange import to_nir
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import LAYOUTS
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from tests.compositions import rule_of, state_of
from tests.conftest import cnn, lc

FORMS = [(3, 1, 1), (3, 2, 1), (2, 2, 0), (5, 1, 2), (2, 3, 1), (1, 1, 0)]  # kernel, stride, padding
PRE = (2, 8, 7)


def wired(kernel: int, stride: int, padding: int, **more: Any) -> tuple[Local2d, Synapses, tuple[int, ...]]:
    """A connection with float64 synapses onto three channels."""
    geometry = Local2d(kernel, stride, padding, bias=True, **more)
    arriving = geometry.pool.size(PRE) if geometry.pool else PRE
    post = (3, *((n + 2 * padding - kernel) // stride + 1 for n in arriving[1:]))
    start = geometry.start(geometry.weight_shape(PRE, post), post, torch.Generator().manual_seed(0))
    return geometry, Synapses(*(torch.randn_like(s, dtype=torch.float64) for s in start if s is not None)), post


def maps(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def unfolded(geometry: Local2d, synapses: Synapses, arriving: Tensor) -> Tensor:
    """Second implementation: torch's own patches and one einsum, without any code of ours."""
    weight, bias = synapses
    patches = functional.unfold(arriving, geometry.kernel, 1, geometry.padding, geometry.stride)
    flat = weight.flatten(3).flatten(1, 2)  # [out, positions, in kernel^2]
    return torch.einsum("opk,bkp->bop", flat, patches).unflatten(2, weight.shape[1:3]) + (0 if bias is None else bias)


@pytest.mark.parametrize(("kernel", "stride", "padding"), FORMS)
@pytest.mark.parametrize("pool", [None, "average", "max"])
def test_the_same_kernel_everywhere_is_a_convolution(kernel: int, stride: int, padding: int, pool: str | None) -> None:
    """Drive, and outer summed over positions. Must fail when rows and columns of the kernel are swapped (tried)."""
    local, synapses, post = wired(kernel, stride, padding, pool=POOLINGS[pool]() if pool else None)
    conv = Conv2d(kernel, stride, padding, local.pool, bias=True)
    shared, bias = maps(3, 2, kernel, kernel), maps(3)
    synapses.weight.copy_(shared[:, None, None].expand_as(synapses.weight))
    assert synapses.bias is not None
    synapses.bias.copy_(bias[:, None, None].expand(post))
    x, factor = maps(4, *PRE), maps(4, *post)
    drive = local.drive(synapses, local.carry(x))
    torch.testing.assert_close(drive, conv.drive(Synapses(shared, bias), conv.carry(x)), rtol=1e-12, atol=1e-12)
    mine, other = (
        local.outer(synapses, factor, local.carry(x)),
        conv.outer(Synapses(shared, bias), factor, conv.carry(x)),
    )
    torch.testing.assert_close(mine.weight.sum((1, 2)), other.weight, rtol=1e-12, atol=1e-12)
    assert mine.bias is not None and other.bias is not None
    torch.testing.assert_close(mine.bias.sum((1, 2)), other.bias, rtol=1e-12, atol=1e-12)
    e = local.each(synapses, factor[None], local.carry(x)[None])
    other_e = conv.each(Synapses(shared, bias), factor[None], conv.carry(x)[None])
    torch.testing.assert_close(e.sum((2, 3)), other_e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("portion", [1, 2**20], ids=["row by row", "at once"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), FORMS)
def test_drive_and_its_adjoints_equal_autograd(
    kernel: int, stride: int, padding: int, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must fail when the adjoint in the input skips the last pixel of the kernel (tried)."""
    monkeypatch.setattr(module, "COPIED", portion)
    geometry, synapses, post = wired(kernel, stride, padding)
    x, factor = maps(4, *PRE), maps(4, *post)
    leaves = [geometry.carry(x).requires_grad_(), *(s.requires_grad_() for s in synapses if s is not None)]
    ours, theirs = (
        geometry.drive(Synapses(*leaves[1:]), leaves[0]),
        unfolded(geometry, Synapses(*leaves[1:]), leaves[0]),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    exact = torch.autograd.grad((theirs * factor).sum(), leaves)
    for got, want in zip(torch.autograd.grad((ours * factor).sum(), leaves), exact, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        outer = geometry.outer(synapses, factor, geometry.carry(x))
    torch.testing.assert_close(outer.weight, exact[1], rtol=1e-12, atol=1e-12)
    assert outer.weight.stride() == synapses.weight.stride()  # an optimizer may walk through both by their memory


def test_each_example_by_itself_sums_to_the_outer() -> None:
    """kept e + sum_k posts[k] x pres[k], in place. Must fail when a new e is not emptied first (tried)."""
    geometry, synapses, post = wired(3, 2, 1)
    posts, pres = maps(2, 4, *post), torch.stack([geometry.carry(maps(4, *PRE)) for _ in range(2)])
    summed = sum(geometry.outer(synapses, *pair).weight for pair in zip(posts, pres, strict=True))
    torch.testing.assert_close(geometry.each(synapses, posts, pres).sum(0), summed, rtol=1e-12, atol=1e-12)
    start = maps(4, *synapses.weight.shape)
    e = start.clone()
    assert geometry.each(synapses, posts, pres, e, 0.5) is e
    torch.testing.assert_close(e, 0.5 * start + geometry.each(synapses, posts, pres), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        geometry.each(synapses, posts, pres, torch.full_like(start, torch.nan), 0.0),
        geometry.each(synapses, posts, pres),
    )


@pytest.mark.parametrize("name", ["kaiming_normal", "kaiming_uniform", "xavier_normal"])
def test_weights_start_at_the_scale_of_a_convolution(name: str) -> None:
    """Over 180,000 draws within 2 %; the spread itself is 0.2 %. Must fail when positions count in the fans (tried)."""
    geometry = Local2d(5, padding=2, weight=INITIALISERS[name]())
    post = (9, 10, 10)
    weight = geometry.start(geometry.weight_shape((8, 10, 10), post), post, torch.Generator().manual_seed(0)).weight
    fan_in, fan_out = 8 * 25, 9 * 25
    expected = (2 / fan_in) ** 0.5 if "kaiming" in name else (2 / (fan_in + fan_out)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=2e-2)
    assert not torch.equal(weight[:, 0, 0], weight[:, 0, 1])
    x = torch.randn(100, 8, 10, 10, generator=torch.Generator().manual_seed(1))
    drive = geometry.drive(Synapses(weight, None), x)[:, :, 2:-2, 2:-2]
    assert drive.var().item() == pytest.approx(fan_in * expected**2, rel=5e-2)


def rows_of(network: Network, local: Network, learner: Any) -> None:
    """Give the dense twin the projections of the maps: theirs are counted position by position."""
    for name, state in state_of(learner).modulators.items():
        channels, *positions = (*local.populations[name].size, 1)[:3]
        order = torch.arange(state[0].shape[1]).view(*positions, channels).movedim(-1, 0).flatten()
        state_of(learner).modulators[name] = type(state)(
            *(part[:, order] if part.ndim == 2 else part for part in state)
        )


@pytest.mark.parametrize(("neuron", "steps"), [("relu", 1), ("lif", 6)])
@pytest.mark.parametrize("rule", ["sbd", "ebd", "dfa", "bptt"])
def test_a_network_learns_as_its_dense_twin(rule: str, neuron: str, steps: int) -> None:
    """The same network with its local weights written out as dense ones, in one step or online through eligibilities.

    Must fail when a patch is taken one pixel off (tried).
    """
    local = lc(neuron)
    twin, (post, pre, there) = dense_twin(local)
    torch.manual_seed(1)
    x, target = maps(steps, 5, 2, 8, 8) * 3, torch.randint(0, 3, (5,))
    found = []
    for network, inputs in ((local, x), (twin, x.flatten(2))):
        made = RULES[rule]() if rule == "bptt" else rule_of(rule, layout=LAYOUTS["full"]())
        learner = Learner(network, made, LOSSES["cross_entropy"](), torch.Generator().manual_seed(3))
        if network is twin and rule != "bptt":
            rows_of(network, local, learner)
        learner.learn(Batch(inputs, target, (1 / steps,) * steps))
        found.append({name: p.grad for name, p in network.named_parameters()})
    mine, other = (grads["weights.input->first"] for grads in found)
    assert mine.any() and not mine[~there].any()  # synapses onto the padding
    torch.testing.assert_close(mine[there], other[post[there], pre[there]], rtol=1e-9, atol=1e-12)
    bias = [grads["biases.input->first"] for grads in found]
    torch.testing.assert_close(bias[0].flatten(), bias[1], rtol=1e-9, atol=1e-12)


def dense_twin(network: Network) -> tuple[Network, tuple[Tensor, Tensor, Tensor]]:
    """Dense network that computes the same, with the pooling written into its weights.

    And of each synapse from the input: its post unit, its pre unit, and whether that is inside the map.
    """
    geometry = network.connections["input->first"].geometry
    assert isinstance(geometry, Local2d)
    weight = network.weights["input->first"].detach()
    post = torch.arange(weight[..., 0, 0, 0].numel()).view(weight.shape[:3])[..., None, None, None].expand_as(weight)
    numbers = torch.arange(2 * 64, dtype=torch.float64).view(1, 2, 8, 8) + 1
    patches = functional.unfold(numbers, 3, padding=1).view(2, 3, 3, 8, 8).permute(3, 4, 0, 1, 2)
    pre = (patches.round().long() - 1)[None].expand_as(weight)
    there = pre >= 0
    populations = [Population(n, (torch.Size(p.size).numel(),), p.neuron) for n, p in network.populations.items()]
    connections = [dataclasses.replace(c, geometry=Dense(bias=c.geometry.bias)) for c in network.connections.values()]
    twin = Network(populations, connections, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        twin.weights["input->first"].zero_()
        twin.weights["input->first"][post[there], pre[there]] = weight[there]
        basis = torch.eye(4 * 64, dtype=torch.float64).view(-1, 4, 8, 8)
        second = network.connections["first->second"]
        matrix = second.geometry.drive(network.synapses(second), second.geometry.carry(basis)).flatten(1).t()
        twin.weights["first->second"].copy_(matrix)
        twin.weights["second->output"].copy_(network.weights["second->output"])
        for name, bias in network.biases.items():
            twin.biases[name].copy_(bias.flatten())
    return twin, (post, pre, there)


def test_absent_synapses_stay_absent() -> None:
    network = lc(sparsity=0.5)
    learner = Learner(network, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(3))
    learner.learn(Batch(maps(1, 5, 2, 8, 8), torch.randint(0, 3, (5,))))
    for name in ("input->first", "first->second"):
        weight, present = network.weights[name], network.present(network.connections[name])
        assert present is not None and weight.grad is not None and weight.grad.any()
        assert not weight.grad[present == 0].any() and not weight[present == 0].any()
        assert weight.stride() == weight.grad.stride() == present.stride()


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_optimizers_of_torch_walk_along_the_weight(name: str) -> None:
    """Memory order is not the order of the axes; fused = plain. Must fail when a gradient has other strides (tried)."""
    network, results = lc(), []
    learner = Learner(network, RULES["dfa"](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(3))
    learner.learn(Batch(maps(1, 5, 2, 8, 8), torch.randint(0, 3, (5,))))
    for fused in (False, True):
        weights = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}
        make = torch.optim.Adam if name == "adam" else torch.optim.SGD
        optimizer = make(weights.values(), lr=1e-2, fused=fused)
        for _ in range(2):
            for key, weight in weights.items():
                weight.grad = network.get_parameter(key).grad
            optimizer.step()
        results.append(weights)
    for key in results[0]:
        torch.testing.assert_close(results[0][key], results[1][key])


def test_a_reward_is_laid_out_like_the_weight() -> None:
    """rstdp makes its change from eligibilities in another order of memory. Must fail when it is taken as it is
    (tried)."""
    for network in (lc("lif"), cnn("lif")):
        learner = Learner(network, RULES["rstdp"](), LOSSES["cross_entropy"](), torch.Generator().manual_seed(3))
        learner.learn(Batch(maps(6, 5, 2, 8, 8) * 9, torch.arange(5) % 3, (1 / 6,) * 6))
        for weight in network.weights.values():
            assert weight.grad is not None and weight.grad.any() and weight.grad.stride() == weight.stride()


def test_nir_says_what_it_cannot_hold() -> None:
    pytest.importorskip("nir")
    with pytest.raises(UsageError, match=r"connection 'input->first': NIR has no weights for Local2d; legal are dense"):
        to_nir(lc("li"))


@pytest.mark.parametrize(
    ("size", "kernel", "message"),
    [
        ((3, 6, 6), 5, r"local2d with kernel 5.*size = \[3, 4, 4\]"),
        ((3, 4, 4), 9, "a kernel of 9 does not fit"),
        ((3,), 5, r"size = \[3, 4, 4\]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, ...], kernel: int, message: str) -> None:
    populations = [Population("input", (2, 8, 8), None), Population("output", size, NEURONS["identity"]())]
    with pytest.raises(ValueError, match=message):
        Network(populations, [Connection("input", "output", Local2d(kernel))], torch.Generator())
    with pytest.raises(ValueError, match=r"Local2d\.stride must be at least 1"):
        Local2d(3, stride=0)

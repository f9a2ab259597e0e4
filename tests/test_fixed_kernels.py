"""A score that comes to a map as through a convolution that goes back."""

import pytest
import torch

import neurosbd
from neurosbd.neuromodulators import FixedKernels
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.rules import RULES
from neurosbd.testing.judging import Check
from neurosbd.testing.networks import cnn, lc
from neurosbd.testing.rules import RULE_CHECKS
from tests.contracts.tables import seeded


@pytest.mark.parametrize("size", [(3, 8, 8), (2, 7, 9), (1, 5, 5)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 2, 2), (3, 3, 2), (2, 1, 0), (2, 3, 0)])
def test_it_is_the_transposed_convolution_of_a_constant_map(
    size: tuple[int, ...], kernel: int, stride: int, padding: int
) -> None:
    """Oracle: autograd of a convolution whose output has the score at all positions. Must fail when the padding is
    left out, or rows and columns of a kernel are swapped (both tried)."""
    modulator = FixedKernels(kernel, stride, padding, scale=1.0)
    value = torch.randn(4, *size, dtype=torch.float64, requires_grad=True)
    broadcast = Broadcast(torch.randn(4, 10, dtype=torch.float64))
    state = modulator.init(Receiver(value.detach()), broadcast, seeded())
    kernels = state.frozen.view(10, size[0], kernel, kernel)
    above = torch.nn.functional.conv2d(value, kernels, stride=stride, padding=padding)
    (exact,) = torch.autograd.grad((above * broadcast.score[:, :, None, None]).sum(), value)
    found = modulator.third_factor(state, Receiver(value.detach()), broadcast)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
def test_dfa_keeps_its_contract_with_it(check: Check) -> None:
    check(lambda: RULES["dfa"](neuromodulator=FixedKernels()))


def test_maps_smaller_than_a_kernel_are_refused() -> None:
    rule = RULES["dfa"](neuromodulator=FixedKernels(5, padding=0))
    for make, name in ((cnn, "conv2"), (lc, "second")):
        with pytest.raises(
            ValueError, match=f"population '{name}': fixed_kernels.kernel is 5, larger than a map of 2 x 2"
        ):
            neurosbd.learner(make(), rule)

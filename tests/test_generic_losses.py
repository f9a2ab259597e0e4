"""Losses from a log-partition function, a generator or any function, against the closed forms."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES, bregman, exponential_family, from_function
from neurosbd.rules import RULES
from tests.conftest import mlp
from tests.targets import close, example, slope


def _entropy(m: Tensor) -> Tensor:
    return torch.special.xlogy(m, m).sum(1)


def _binary_entropy(m: Tensor) -> Tensor:
    return (torch.special.xlogy(m, m) + torch.special.xlogy(1 - m, 1 - m)).sum(1)


GENERIC = {
    "cross_entropy by log-partition": ("cross_entropy", exponential_family(lambda z: z.logsumexp(1), None, "classes")),
    "bernoulli by log-partition": (
        "bernoulli", exponential_family(lambda z: functional.softplus(z, threshold=1000).sum(1), None, "binary"),
    ),
    "poisson by log-partition": ("poisson", exponential_family(lambda z: z.exp().sum(1), targets="counts")),
    "squared_error by log-partition": ("squared_error", exponential_family(lambda z: 0.5 * z.square().sum(1))),
    "squared_error by divergence": ("squared_error", bregman(lambda m: 0.5 * m.square().sum(1), lambda z: z)),
    "brier by divergence": ("brier", bregman(lambda m: m.square().sum(1), lambda z: torch.softmax(z, 1), "classes")),
    "cross_entropy by divergence": ("cross_entropy", bregman(_entropy, lambda z: torch.softmax(z, 1), "classes")),
    "bernoulli by divergence": ("bernoulli", bregman(_binary_entropy, torch.sigmoid, "binary")),
    "poisson by divergence": ("poisson", bregman(lambda m: _entropy(m) - m.sum(1), torch.exp, "counts")),
    "gamma by divergence": ("gamma", bregman(lambda m: -m.log().sum(1), torch.exp, "positive")),
    "cross_entropy by function": (
        "cross_entropy", from_function(lambda z, y: functional.cross_entropy(z, y, reduction="none"), "classes"),
    ),
    "crps by function": ("crps", from_function(LOSSES["crps"]().per_example, "reals", 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", list(GENERIC))
def test_losses_from_functions_reproduce_the_closed_forms(case: str) -> None:
    """Scores equal; losses equal up to what does not depend on the output. Must fail for half a generator (tried)."""
    name, generic = GENERIC[case]
    loss = LOSSES[name]()
    output, target = example(loss, 60)
    output.requires_grad_()
    with torch.no_grad():
        score = generic.score(output, target)
        close(score, loss.score(output, target))
        assert not score.requires_grad and not generic.per_example(output, target).requires_grad
    close(slope(generic, output, target), score)  # as backprop sees it
    offset = generic.per_example(output, target) - loss.per_example(output, target)
    moved = generic.per_example(output + 0.5, target) - loss.per_example(output + 0.5, target)
    close(offset, moved, rtol=1e-9, atol=1e-9)
    assert neurosbd.admissible(generic)


def test_natural_parameters_of_a_gaussian_with_two_statistics() -> None:
    """T(y) = (y, y^2), A = -eta1^2 / (4 eta2) - 1/2 log(-2 eta2): the derivative of the Gaussian likelihood."""
    family = exponential_family(lambda z: (-z[:, 0].square() / (4 * z[:, 1]) - 0.5 * torch.log(-2 * z[:, 1])),
                                lambda y: torch.cat((y, y.square()), 1), parameters=2)  # fmt: skip
    eta = torch.tensor([[0.3, -0.7], [1.2, -2.0]]).double()
    y = torch.tensor([[0.4], [-1.0]]).double()
    mean, variance = -eta[:, :1] / (2 * eta[:, 1:]), -0.5 / eta[:, 1:]
    moments = torch.cat((mean, mean.square() + variance), 1)
    close(family.score(eta, y), moments - torch.cat((y, y.square()), 1))
    with pytest.raises(UsageError, match=r"\[2, 2\].*\[2, 3\]"):
        family.score(torch.zeros(2, 3), y)


def test_a_loss_of_ones_own_trains_a_network_as_its_closed_form_does() -> None:
    """One function is enough; no graph reaches the network. Must fail when the function is scaled (tried)."""
    own = from_function(lambda z, y: functional.cross_entropy(z, y, reduction="none"), "classes")
    x, target = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 3
    grads = []
    for loss in (own, LOSSES["cross_entropy"]()):
        for rule in ("sbd", "bp"):
            network = mlp([5, 7, 3])
            Learner(network, RULES[rule](), loss, torch.Generator().manual_seed(0)).learn(Batch(x[None], target))
            grads.append([p.grad for p in network.parameters()])
    for mine, closed in zip(grads[:2], grads[2:], strict=True):
        for a, b in zip(mine, closed, strict=True):
            assert a is not None and b is not None
            close(a, b)


def test_a_function_must_give_a_loss_per_example() -> None:
    with pytest.raises(UsageError, match=r"gave \[\] for an output \[4, 2\]; it must give \[4\]"):
        from_function(functional.mse_loss).score(torch.zeros(4, 2), torch.zeros(4, 2))

"""Losses made from functions: exponential families, Bregman divergences, a user's own.

Autograd runs on the outputs alone: the network has no graph, and needs none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosbd.errors import UsageError, nearest
from neurosbd.losses.targets import TARGETS, Targets, as_vector

PerExample = Callable[[Tensor, Tensor], Tensor]
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Derived:
    """A loss given by two functions of output [B, C] and target; made by the constructors below.

    loss: of each example, [B].
    derivative: d loss / d output, [B, C].
    targets: which are legal, for `admissible`.
    parameters: outputs per value of the target.
    """

    loss: PerExample
    derivative: PerExample
    targets: Targets
    parameters: int = 1

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each example, [B]."""
        return self.loss(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """d loss / d output of each example, [B, C]; without a graph."""
        return self.derivative(output, target)


def kind_of(targets: str | Targets) -> Targets:
    """A kind of targets by name.

    Raises:
        UsageError: if there is none of that name, with the legal ones.
    """
    if isinstance(targets, Targets):
        return targets
    if targets not in TARGETS:
        raise UsageError(f"there are no targets '{targets}'{nearest(targets, TARGETS)}")
    return TARGETS[targets]


def from_function(per_example: PerExample, targets: str | Targets = "reals", parameters: int = 1) -> Derived:
    """A loss of one's own: one function, whose derivative autograd takes at the output.

    Args:
        per_example: (output [B, C], target) -> loss of each example [B], of torch operations; each loss may depend
            on its own row only.
        targets: the kind of legal targets: classes, binary, counts, positive or reals; for `admissible`, which should
            be asked before such a loss is trusted.
        parameters: outputs per value of the target.

    Raises:
        UsageError: when used, if the function does not return [B].

    >>> huber = from_function(lambda z, y: torch.nn.functional.huber_loss(z, y, reduction="none").sum(1))
    >>> huber.score(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2))
    tensor([[0.5000, 1.0000]])
    """

    def loss(output: Tensor, target: Tensor) -> Tensor:
        values = per_example(output, target)
        if values.shape != (len(output),):
            raise UsageError(
                f"the loss function gave {list(values.shape)} for an output {list(output.shape)}; it must give "
                f"[{len(output)}], a loss per example: sum over the columns, not over the batch"
            )
        return values

    def derivative(output: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            return _slope(loss(leaf, target), leaf)

    return Derived(loss, derivative, kind_of(targets), parameters)


def exponential_family(
    log_partition: Function,
    sufficient_statistic: Function | None = None,
    targets: str | Targets = "reals",
    parameters: int = 1,
) -> Derived:
    """Negative log-likelihood of an exponential family; the outputs are its natural parameters.

        loss = A(output) - T(y) . output        (up to log h(y), which does not depend on the output)
        score = grad A(output) - T(y)

    Args:
        log_partition: A, natural parameters [B, C] -> [B]; convex, and finite for every output.
        sufficient_statistic: T, targets -> [B, C]; none: labels become one-hot, values stay as they are.
        targets: the kind of legal targets, for `admissible`.
        parameters: outputs per value of the target.
    Raises:
        UsageError: when used, if T(y) has not the shape of the output.
    Source: Barndorff-Nielsen 1978, Information and Exponential Families.

    >>> poisson = exponential_family(lambda eta: eta.exp().sum(1), targets="counts")
    >>> poisson.score(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]))
    tensor([[ 1., -2.]])
    """

    def statistic(output: Tensor, target: Tensor) -> Tensor:
        if sufficient_statistic is None:
            return as_vector(target, output)
        found = sufficient_statistic(target)
        if found.shape != output.shape:
            raise UsageError(
                f"the sufficient statistic of the targets is {list(found.shape)}, the output {list(output.shape)}; "
                f"a natural parameter is needed for each statistic"
            )
        return found.to(output.dtype)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return log_partition(output) - (statistic(output, target) * output).sum(1)

    def derivative(output: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            mean = _slope(log_partition(leaf), leaf)
        return mean - statistic(output, target)

    return Derived(loss, derivative, kind_of(targets), parameters)


def bregman(generator: Function, link: Function, targets: str | Targets = "reals") -> Derived:
    """Bregman divergence of the target from link(output).

        loss = phi(y) - phi(m) - grad phi(m) . (y - m),   m = link(output)
        score = link'(output)^T Hess phi(m) (m - y)       (m - y with the canonical link, grad phi(m) = output)

    The minimiser is m = E[y|x], whatever phi. The Hessian is never made: it is a product with m - y.

    Args:
        generator: phi, [B, k] -> [B]; strictly convex where m and y are, and finite at y.
        link: output [B, k] -> m [B, k]; one to one into the inside of the domain of phi.
        targets: the kind of legal targets, for `admissible`.
    Source: Banerjee, Guo, Wang 2005, IEEE Trans. Inf. Theory 51:2664.

    >>> entropy = bregman(lambda m: torch.special.xlogy(m, m).sum(1) - m.sum(1), torch.exp, targets="counts")
    >>> entropy.score(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]))
    tensor([[ 1., -2.]])
    """

    def loss(output: Tensor, target: Tensor) -> Tensor:
        y = as_vector(target, output)
        tracked = torch.is_grad_enabled()
        with torch.enable_grad():
            m = link(output)
            leaf = m if m.requires_grad else m.detach().requires_grad_()
            value = generator(leaf)
            slope = _slope(value, leaf, create_graph=True)
            divergence = generator(y) - value - (slope * (y - leaf)).sum(1)
        return divergence if tracked and m.requires_grad else divergence.detach()

    def derivative(output: Tensor, target: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            m = link(leaf)
            slope = _slope(generator(m), m, create_graph=True)
            away = m.detach() - as_vector(target, output)
            return _slope((slope * away).sum(1), leaf)

    return Derived(loss, derivative, kind_of(targets))


def _slope(values: Tensor, at: Tensor, create_graph: bool = False) -> Tensor:
    """d values[b] / d at[b] of every example at once; 0 where there is no dependence."""
    if not values.requires_grad:
        return torch.zeros_like(at)
    (slope,) = torch.autograd.grad(values.sum(), at, create_graph=create_graph, materialize_grads=True)
    return slope

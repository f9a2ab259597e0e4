"""What is an admissible loss and what is not, with the reason."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.losses import LOSSES, Predictive, from_function
from tests.targets import with_options


@dataclass(frozen=True)
class _WithScore:
    """A loss whose score is something else."""

    inner: Predictive
    change: Any

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        return self.inner.per_example(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return self.change(self.inner.score(output, target), output, target)


@with_options()
def test_every_option_is_admissible(name: str, options: dict[str, Any]) -> None:
    found = neurosbd.admissible(LOSSES[name](**options))
    assert found and found.minimiser == "interior" and found.residual <= found.threshold <= 0.02, found


def _hinge(z: Tensor, label: Tensor) -> Tensor:
    return (1 + z - z.gather(1, label[:, None])).clamp_min(0).sum(1) - 1


def _binary_hinge(z: Tensor, y: Tensor) -> Tensor:
    return (1 - (2 * y - 1) * z).clamp_min(0).sum(1)


def _rectified(z: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (torch.relu(z) - y).square().sum(1)


COUNTER = {
    "hinge over classes": (from_function(_hinge, "classes"), "E s. is", "interior"),
    "hinge": (from_function(_binary_hinge, "binary"), "E s. is", "interior"),
    "rectified output": (from_function(_rectified), "does not change the loss", "flat"),
    "no minimiser": (from_function(lambda z, y: -(y * z).sum(1)), "no minimiser", "infinity"),
    "fading": (from_function(lambda z, y: 5 + torch.exp(-z).sum(1)), "no minimiser", "infinity"),
}


@pytest.mark.parametrize("case", list(COUNTER))
def test_losses_that_are_not_admissible(case: str) -> None:
    loss, reason, place = COUNTER[case]
    found = neurosbd.admissible(loss)
    assert not found and found.minimiser == place
    assert reason.replace("E s.", "E s|") in found.message and found.message.startswith("not admissible: ")


CHANGES = {
    "clipped by label": lambda s, z, y: torch.where(y > 0, s.clamp(-0.5, 0.5), s),
    "clipped": lambda s, z, y: s.clamp(-0.5, 0.5),
    "sign": lambda s, z, y: -s,
    "scale": lambda s, z, y: 1.001 * s,
    "shifted": lambda s, z, y: s + 0.01,
    "nan": lambda s, z, y: s * math.nan,
}


@pytest.mark.parametrize("case", list(CHANGES))
@pytest.mark.parametrize("name", ["squared_error", "poisson"])
def test_a_score_of_something_else_is_noticed(name: str, case: str) -> None:
    """Sign and scale average to 0 all the same, so only the comparison with the derivative tells."""
    found = neurosbd.admissible(_WithScore(LOSSES[name](), CHANGES[case]), LOSSES[name]().targets)
    assert not found and "not the derivative" in found.message
    if case in ("clipped by label", "shifted"):
        assert found.residual > 1e-3
    if case in ("sign", "scale"):
        assert found.residual < 1e-6 and found.mismatch == pytest.approx(2.0 if case == "sign" else 1e-3, rel=1e-6)


def test_a_bounded_readout_has_its_minimiser_on_the_boundary() -> None:
    """Rectified rates and negative conditional means; not so for positive ones."""
    found = neurosbd.admissible("squared_error", low=0.0)
    assert not found and found.minimiser == "boundary" and found.residual > 0.1
    assert neurosbd.admissible("squared_error", "positive", low=0.0)


def test_without_noise_likelihoods_have_no_minimiser_but_squared_error_has() -> None:
    for name, target in (("cross_entropy", torch.tensor([1])), ("bernoulli", torch.tensor([[1.0, 0.0]]))):
        found = neurosbd.admissible(name, target)
        assert not found and found.minimiser == "infinity"
    assert neurosbd.admissible("squared_error", torch.tensor([[1.0, -2.0]]))


def test_admissible_says_what_it_needs() -> None:
    with pytest.raises(UsageError, match="did you mean 'poisson'"):
        neurosbd.admissible("poison")
    with pytest.raises(UsageError, match="no targets 'count'; did you mean 'counts'"):
        neurosbd.admissible("poisson", "count")
    with pytest.raises(UsageError, match="does not say which targets"):
        neurosbd.admissible(_WithScore(LOSSES["poisson"](), CHANGES["sign"]))
    with pytest.raises(UsageError, match="does not depend on the outputs"):
        neurosbd.admissible(from_function(lambda z, y: torch.zeros(len(z))))
    assert str(neurosbd.admissible("brier")).startswith("admissible: ")

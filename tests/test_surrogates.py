"""Pseudo-derivatives: their formulas, areas and symmetry, and what autograd makes of a spike."""

import math
from typing import Any

import pytest
import torch

from neurosbd.surrogates import SURROGATES, ArcTan, Boxcar, FastSigmoid, Gaussian, Triangle, spike

SHAPES = [name for name in SURROGATES if name != "none"]
AREAS = [  # the integral over all distances, in closed form
    (Triangle(0.3, 1.5), 0.3 * 1.5),
    (FastSigmoid(4.0), 2 / 4.0),
    (ArcTan(3.0), 1.0),
    (Boxcar(0.5, 0.8), 2 * 0.5 * 0.8),
    (Gaussian(0.5, 0.7), 0.5 * 0.7 * math.sqrt(2 * math.pi)),
]


@pytest.mark.parametrize(("surrogate", "area"), AREAS, ids=lambda v: type(v).__name__)
def test_area_is_the_closed_form(surrogate: Any, area: float) -> None:
    """By substitution x = tan(u), midpoint rule: long tails included. Must fail for a missing 1/2 (tried: ArcTan)."""
    count = 200_000
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count * math.pi - math.pi / 2
    integral = (surrogate.derivative(torch.tan(u)) / torch.cos(u).square()).sum().item() * math.pi / count
    assert integral == pytest.approx(area, rel=1e-4)  # an edge of the boxcar falls between two points


def test_every_surrogate_has_an_area_here() -> None:
    assert {type(s) for s, _ in AREAS} == {SURROGATES[name] for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_surrogates_are_symmetric_and_fall_with_the_distance(name: str) -> None:
    surrogate, x = SURROGATES[name](), torch.linspace(0, 3, 301, dtype=torch.float64)
    right, left = surrogate.derivative(x.clone()), surrogate.derivative(-x)
    assert torch.equal(right, left)
    assert (right >= 0).all() and (right.diff() <= 0).all() and right[0] == right.max() > 0
    assert right[-1] < 0.1 * right[0]


@pytest.mark.parametrize("name", SHAPES)
def test_a_spike_is_a_step_whose_gradient_is_the_surrogate(name: str) -> None:
    """Values bitwise 0 or 1, gradient the derivative. Must fail for `>=` at threshold (tried)."""
    surrogate = SURROGATES[name]()
    x = torch.tensor([-2.5, -0.31, -1e-9, 0.0, 1e-9, 0.47, 1.7], dtype=torch.float64, requires_grad=True)
    value, upstream = spike(x, surrogate), torch.randn(7, dtype=torch.float64)
    assert value.tolist() == [0, 0, 0, 0, 1, 1, 1]
    (gradient,) = torch.autograd.grad((value * upstream).sum(), x)
    torch.testing.assert_close(gradient, upstream * surrogate.derivative(x.detach().clone()), rtol=1e-14, atol=0)
    with torch.no_grad():
        assert spike(x, surrogate).grad_fn is None and torch.equal(spike(x, surrogate), value)


@pytest.mark.parametrize(("theirs", "ours"), [("atan", ArcTan(2.0)), ("fast_sigmoid", FastSigmoid(25.0))])
@pytest.mark.filterwarnings("ignore")
def test_surrogates_of_snntorch(theirs: str, ours: Any) -> None:
    """Backward of a second implementation, float64."""
    module = pytest.importorskip("snntorch.surrogate", exc_type=ImportError)
    x = torch.linspace(-2, 2, 101, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(getattr(module, theirs)()(x).sum(), x)
    torch.testing.assert_close(ours.derivative(x.detach().clone()), gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_illegal_shapes_are_refused(name: str) -> None:
    for field in vars(SURROGATES[name]()):
        for bad, kind in ((0.0, "positive"), (-1.0, "positive"), (math.inf, "finite"), (math.nan, "finite")):
            with pytest.raises(ValueError, match=rf"\.{field} must be a {kind} number"):
                SURROGATES[name](**{field: bad})


def test_a_neuron_without_a_surrogate_says_so_when_one_is_needed() -> None:
    none = SURROGATES["none"]()
    with torch.no_grad():
        assert spike(torch.tensor([-1.0, 1.0]), none).tolist() == [0, 1]
    with pytest.raises(ValueError, match="give the neuron a surrogate"):
        none.derivative(torch.zeros(2))

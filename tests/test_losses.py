"""Losses against autograd, second implementations and closed forms; their scores at optima."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Tensor
from torch.nn import functional

from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES, Predictive
from neurosbd.losses.targets import BINARY, CLASSES, as_vector
from neurosbd.rules import RULES
from tests.conftest import mlp
from tests.targets import OPTIONS, close, differences, example, slope, with_options

SOFTMAX = [(name, options) for name, options in OPTIONS if LOSSES[name](**options).targets is CLASSES]


# Scores -------------------------------------------------------------------------------------------


@with_options()
def test_score_with_options_is_the_derivative(name: str, options: dict[str, Any]) -> None:
    """A8 (1), by autograd and by finite differences. Must fail when class weights are left out of sum(t) in the score
    (tried)."""
    loss = LOSSES[name](**options)
    output, target = example(loss, 200)
    forms = [target]
    if loss.targets in (CLASSES, BINARY):
        forms += [torch.rand(200, 3, dtype=torch.float64), torch.arange(200) % 3]
    for form in forms:
        close(loss.score(3 * output, form), slope(loss, 3 * output, form))
        close(loss.score(output, form), differences(loss, output, form), rtol=1e-6, atol=1e-8)


@with_options(SOFTMAX)
def test_softmax_scores_sum_to_zero(name: str, options: dict[str, Any]) -> None:
    """A8 (2). Must fail for an output that is not a softmax (tried: bernoulli)."""
    output, target = example(LOSSES[name](**options), 200)
    close(LOSSES[name](**options).score(output, target).sum(1), torch.zeros(200), atol=1e-14)
    assert LOSSES["bernoulli"]().score(output, target).sum(1).abs().max() > 0.1


@with_options()
def test_targets_drawn_from_the_model_average_the_score_to_zero(name: str, options: dict[str, Any]) -> None:
    """A8 (3): E[s h^T] -> 0 as 1/sqrt(N), for any h and any outputs. Must fail for targets of other examples."""
    loss = LOSSES[name](**options)
    generator = torch.Generator().manual_seed(7)
    for count in (1_000, 100_000):
        h = torch.rand(count, 4, dtype=torch.float64, generator=generator)
        weight = torch.randn(4, 3 * loss.parameters, dtype=torch.float64, generator=generator)
        output = (h - 0.5) @ weight
        if name == "pinball":  # quantiles that cross belong to no distribution
            output = output.reshape(count, -1, 3).sort(1).values.flatten(1)
        target = loss.sample(output, generator)

        def deviation(target: Tensor, output: Tensor = output, h: Tensor = h) -> float:
            """Largest mean of s h in units of its standard error, which falls as 1/sqrt(N)."""
            products = loss.score(output, target)[:, :, None] * h[:, None]
            return (products.mean(0) / products.std(0) * math.sqrt(len(h))).abs().max().item()

        assert deviation(target) < 4.5
    foreign = loss.sample(output.roll(1, 0), generator)
    assert deviation(foreign) > 7


@with_options([case for case in OPTIONS if case[0] != "pinball"])
def test_at_the_optimum_of_a_readout_score_and_activity_are_orthogonal(name: str, options: dict[str, Any]) -> None:
    """A8 (4): sum_n s_n h_n^T = 0 at the minimum over weights and bias. Must fail away from it (tried: 3 steps)."""
    loss = LOSSES[name](**options)
    _, target = example(loss, 80)
    generator = torch.Generator().manual_seed(1)
    h = torch.cat((torch.randn(80, 3, dtype=torch.float64, generator=generator), torch.ones(80, 1)), 1)
    weight = torch.zeros(4, 3 * loss.parameters, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=3000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        mean = loss.per_example(h @ weight, target).mean()
        mean.backward()
        return mean

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        score = loss.score(h @ weight, target)
    assert (score.T @ h).abs().max() < 1e-6 * score.abs().sum()


def test_at_the_optimum_of_quantile_regression_only_the_interpolated_examples_are_left() -> None:
    """A8 (4) at kinks: the linear program of Koenker and Bassett passes through d examples; the others balance.

    Must fail for another level (tried: 0.5).
    """
    level, count, generator = 0.2, 200, torch.Generator().manual_seed(0)
    h = torch.cat((torch.randn(count, 2, dtype=torch.float64, generator=generator), torch.ones(count, 1)), 1)
    y = h @ torch.tensor([[1.0], [-2.0], [0.5]]).double() + torch.randn(count, 1, generator=generator).double()
    cost = np.concatenate((np.zeros(6), np.full(count, level), np.full(count, 1 - level)))
    rows = np.concatenate((h.numpy(), -h.numpy(), np.eye(count), -np.eye(count)), 1)
    found = optimize.linprog(cost, A_eq=rows, b_eq=y[:, 0].numpy()).x
    q = h @ torch.tensor(found[:3] - found[3:6])[:, None]
    loss = LOSSES["pinball"](levels=(level,))
    free = (q - y)[:, 0].abs() > 1e-9
    assert (~free).sum() == 3
    bound = h[~free].abs().sum(0)
    assert ((loss.score(q, y)[free].T @ h[free])[0].abs() <= bound).all()
    other = LOSSES["pinball"](levels=(0.5,))
    assert not ((other.score(q, y)[free].T @ h[free])[0].abs() <= bound).all()
    close(loss.per_example(q, y).sum(), torch.tensor(cost @ found), rtol=1e-8)


# Values, against other implementations ------------------------------------------------------------


def _reference(name: str, loss: Any, z: Tensor, y: Tensor) -> Tensor:
    """The loss of each example by torch.distributions or torch.nn.functional."""
    one, two = z.chunk(2, 1) if loss.parameters == 2 else (z, z)
    d = torch.distributions
    if name == "gaussian":
        return -d.Normal(one, torch.exp(two / 2)).log_prob(y).sum(1)
    if name == "poisson":
        return -d.Poisson(z.exp()).log_prob(y).sum(1)
    if name == "gamma":
        return -d.Gamma(torch.tensor(loss.shape).double(), loss.shape * torch.exp(-z)).log_prob(y).sum(1)
    if name == "negative_binomial":
        return (
            -d.NegativeBinomial(torch.tensor(loss.r, dtype=torch.float64), logits=z - math.log(loss.r))
            .log_prob(y)
            .sum(1)
        )
    if name == "bernoulli":
        weight = None if loss.positive_weights is None else torch.tensor(loss.positive_weights).double()
        aim = (1 - loss.label_smoothing) * y + loss.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(z, aim, pos_weight=weight, reduction="none").sum(1)
    weight = None if loss.class_weights is None else torch.tensor(loss.class_weights).double()
    return functional.cross_entropy(z, y, weight=weight, label_smoothing=loss.label_smoothing, reduction="none")


LIKELIHOODS = ("gaussian", "poisson", "gamma", "negative_binomial", "bernoulli", "cross_entropy")


@with_options([case for case in OPTIONS if case[0] in LIKELIHOODS])
def test_likelihoods_equal_those_of_torch(name: str, options: dict[str, Any]) -> None:
    """With all constants, so that likelihoods compare. Must fail when a constant is left out (tried: log y!)."""
    loss = LOSSES[name](**options)
    output, target = example(loss, 300)
    close(loss.per_example(2 * output, target), _reference(name, loss, 2 * output, target))
    if name == "cross_entropy":
        soft = torch.softmax(torch.randn(300, 3, dtype=torch.float64), 1)
        close(loss.per_example(output, soft), _reference(name, loss, output, soft))


def test_count_and_gaussian_losses_equal_the_functions_of_torch() -> None:
    z, y = example(LOSSES["poisson"](), 50)
    other = functional.poisson_nll_loss(z, y, log_input=True, full=False, reduction="none") + torch.lgamma(y + 1)
    close(LOSSES["poisson"]().per_example(z, y), other.sum(1))
    z, y = example(LOSSES["gaussian"](), 50)
    mean, log_variance = z.chunk(2, 1)
    other = functional.gaussian_nll_loss(mean, y, log_variance.exp(), full=True, reduction="none", eps=1e-300)
    close(LOSSES["gaussian"]().per_example(z, y), other.sum(1))
    mu, r = torch.tensor([[0.4, 3.0, 25.0]]).double(), 2.5
    counts = torch.tensor([[0.0, 7.0, 20.0]]).double()
    other = -stats.nbinom.logpmf(counts.numpy(), r, r / (r + mu.numpy())).sum()
    assert LOSSES["negative_binomial"](r=r).per_example(mu.log(), counts).item() == pytest.approx(other, rel=1e-12)


def test_negative_binomial_becomes_poisson() -> None:
    """As r grows; the difference falls as 1/r."""
    z, y = example(LOSSES["poisson"](), 50)
    limit = LOSSES["poisson"]().score(z, y)
    gaps = [(LOSSES["negative_binomial"](r=r).score(z, y) - limit).abs().max().item() for r in (1e4, 1e6)]
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.05)


@pytest.mark.parametrize(("mean", "sigma", "y"), [(0.3, 0.7, 1.9), (-2.0, 1.5, -2.0), (0.0, 0.2, -3.0)])
def test_crps_is_the_integral_that_defines_it(mean: float, sigma: float, y: float) -> None:
    """Integral of (F(x) - 1[x >= y])^2 by quadrature. Must fail when 1/sqrt(pi) is left out (tried)."""
    normal = stats.norm(mean, sigma)
    left = integrate.quad(lambda x: float(normal.cdf(x)) ** 2, mean - 12 * sigma - 5, y, epsabs=1e-12, limit=500)[0]
    right = integrate.quad(lambda x: float(normal.sf(x)) ** 2, y, mean + 12 * sigma + 5, epsabs=1e-12, limit=500)[0]
    output = torch.tensor([[mean, math.log(sigma)]], dtype=torch.float64)
    value = LOSSES["crps"]().per_example(output, torch.tensor([[y]], dtype=torch.float64)).item()
    assert value == pytest.approx(left + right, rel=1e-8)


def test_ranked_probability_is_the_energy_score_of_the_class_number() -> None:
    """E|X - y| - 1/2 E|X - X'|, the other form of a CRPS. Must fail when the classes are shuffled (tried)."""
    output, label = example(LOSSES["ranked_probability"](), 40, values=5)
    p, number = torch.softmax(output, 1), torch.arange(5).double()
    distance = (number[:, None] - number).abs()
    energy = (p * distance[label]).sum(1) - 0.5 * ((p @ distance) * p).sum(1)
    close(LOSSES["ranked_probability"]().per_example(output, label), energy)
    assert not torch.allclose(LOSSES["ranked_probability"]().per_example(output[:, [1, 0, 2, 3, 4]], label), energy)


def test_brier_and_spherical_of_a_label() -> None:
    output, label = example(LOSSES["brier"](), 40)
    p = torch.softmax(output, 1)
    chosen = p.gather(1, label[:, None])[:, 0]
    close(LOSSES["brier"]().per_example(output, label), 1 - 2 * chosen + p.square().sum(1))
    close(LOSSES["spherical"]().per_example(output, label), 1 - chosen / torch.linalg.vector_norm(p, dim=1))


def test_pinball_is_minimal_at_the_quantiles() -> None:
    """Against numpy's quantiles of 2,001 values. Must fail when tau and 1 - tau are exchanged (tried)."""
    levels = (0.1, 0.5, 0.9)
    y = torch.randn(2001, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).exp()
    best = torch.tensor(np.quantile(y.numpy(), levels))
    loss = LOSSES["pinball"](levels=levels)
    risk = [loss.per_example((best + shift).expand(2001, 3), y).mean().item() for shift in (0.0, -0.02, 0.02)]
    assert risk[0] < min(risk[1:])
    assert loss.score(best.expand(2001, 3), y).mean(0).abs().max() <= 1 / 2001


def test_pinball_score_and_autograd_agree_at_the_kink() -> None:
    y = torch.zeros(1, 1, dtype=torch.float64)
    loss = LOSSES["pinball"](levels=(0.3,))
    assert loss.score(y, y).item() == slope(loss, y, y).item() == -0.3


@dataclass(frozen=True)
class _Optimum:
    """Where the risk of one distribution is minimal, by Newton's method on its mean score."""

    loss: Predictive
    probabilities: Tensor

    def found(self) -> Tensor:
        z = torch.zeros(1, 3, dtype=torch.float64)
        for _ in range(3000):
            z = z - 0.5 * self.loss.score(z.expand(len(self.probabilities), 3), torch.arange(3)).mul(
                self.probabilities[:, None]
            ).sum(0)
        return z


def test_smoothing_and_class_weights_move_the_minimiser_where_the_documentation_says() -> None:
    """p proportional to w ((1 - e) E[y|x] + e / C). Must fail without smoothing (tried)."""
    weights, e, probabilities = (1.0, 0.5, 3.0), 0.2, torch.tensor([0.7, 0.2, 0.1]).double()
    z = _Optimum(LOSSES["cross_entropy"](e, weights), probabilities).found()
    expected = torch.tensor(weights).double() * ((1 - e) * probabilities + e / 3)
    close(torch.softmax(z, 1)[0], expected / expected.sum(), rtol=1e-8)


def test_positive_weights_multiply_the_odds() -> None:
    loss, probabilities = LOSSES["bernoulli"](0.2, (4.0,)), 0.3
    smooth = 0.8 * probabilities + 0.1
    z = torch.tensor([[math.log(4 * smooth / (1 - smooth))]], dtype=torch.float64)
    means = probabilities * loss.score(z, torch.ones(1, 1)) + (1 - probabilities) * loss.score(z, torch.zeros(1, 1))
    assert abs(means.item()) < 1e-12


# Numerics -----------------------------------------------------------------------------------------


@with_options()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_outputs_stay_finite_and_exact(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """|z| up to 80: loss, score and autograd are those of float64, and finite where those fit into the dtype.

    Only the Gaussian loss can be too large for float32, with three log-variances of -80 at once. Must fail for
    log(sigmoid(z)) in place of logsigmoid(z) (tried).
    """
    loss = LOSSES[name](**options)
    corner = torch.tensor([-80.0, -30.0, 0.0, 30.0, 80.0])
    output = torch.cartesian_prod(*[corner] * 3).repeat(1, loss.parameters)
    output[:, 3:] = output[:, 3:].roll(1, 0)  # so that the parameters differ
    _, target = example(loss, len(output))
    wide, narrow = output.double(), output.to(dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    exact = loss.per_example(wide, target), loss.score(wide, target), loss.score(wide, target)
    found = loss.per_example(narrow, target), loss.score(narrow, target), slope(loss, narrow, target)
    for mine, truth in zip(found, exact, strict=True):
        assert mine.dtype == dtype and torch.isfinite(truth).all()
        fits = truth.abs() < torch.finfo(dtype).max
        assert torch.equal(torch.isfinite(mine), fits) and (fits.all() or name == "gaussian")
        close(mine[fits].double(), truth[fits], rtol=tolerance, atol=tolerance)


EDGES = {"poisson": [0.0, 1e6], "negative_binomial": [0.0, 1e6], "gamma": [1e-30, 1e3], "bernoulli": [0.0, 1.0]}


@pytest.mark.parametrize("name", list(EDGES))
def test_targets_at_the_edge_stay_finite(name: str) -> None:
    loss = LOSSES[name]()
    target = torch.tensor([EDGES[name]])
    for z in (-80.0, 0.0, 80.0):
        output = torch.full((1, 2), z)
        assert torch.isfinite(loss.per_example(output, target)).all()
        assert torch.isfinite(loss.score(output, target)).all() and torch.isfinite(slope(loss, output, target)).all()


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "legal"),
    [
        ("poisson", [-1.0, 2.0], r"target is -1; legal are finite counts >= 0"),
        ("negative_binomial", [1.0, math.inf], r"target is inf; legal are finite counts >= 0"),
        ("gamma", [0.0, 2.0], r"target is 0; legal are finite values > 0"),
        ("gaussian", [math.nan, 2.0], r"target is nan; legal are finite real values"),
        ("bernoulli", [1.2, 0.0], r"target is 1.2; legal are values from 0 to 1"),
    ],
)
def test_illegal_values_are_refused(name: str, target: list[float], legal: str) -> None:
    loss = LOSSES[name]()
    output = torch.zeros(1, 2 * loss.parameters)
    for reading in (loss.per_example, loss.score):
        with pytest.raises(UsageError, match=legal):
            reading(output, torch.tensor([target]))


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n]().targets in (CLASSES, BINARY)] + ["squared_error"])
@pytest.mark.parametrize("wrong", [3, -1])
def test_labels_out_of_range_are_refused(name: str, wrong: int) -> None:
    with pytest.raises(UsageError, match=r"labels go from -?\d to \d, but the output has 3 classes.*0\.\.2"):
        LOSSES[name]().score(torch.zeros(2, 3), torch.tensor([0, wrong]))


def test_layout_of_several_parameters_is_told() -> None:
    with pytest.raises(UsageError, match=r"\[5, 3\].*\[5, 3\].*means, then log-variances, k columns each"):
        LOSSES["gaussian"]().score(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(UsageError, match=r"\[5, 4\].*0.1 quantiles, then 0.9 quantiles"):
        LOSSES["pinball"](levels=(0.1, 0.9)).score(torch.zeros(5, 4), torch.zeros(5, 4))


@pytest.mark.parametrize(
    ("name", "constants", "problem"),
    [
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1, got 1.0"),
        (
            "cross_entropy",
            {"class_weights": (1.0, 0.0)},
            r"class_weights\[1\] must be a positive number",
        ),
        ("bernoulli", {"positive_weights": (-1.0,)}, r"positive_weights\[0\] must be a positive number"),
        ("gamma", {"shape": 0.0}, "Gamma.shape must be a positive number, got 0.0"),
        ("negative_binomial", {"r": math.inf}, "NegativeBinomial.r must be a finite number, got inf"),
        ("pinball", {"levels": (0.9, 0.1)}, "levels must be rising numbers between 0 and 1"),
        ("pinball", {"levels": ()}, "levels must be rising"),
    ],
)
def test_illegal_constants_are_refused(name: str, constants: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LOSSES[name](**constants)


def test_weights_must_be_one_per_output() -> None:
    with pytest.raises(UsageError, match=r"class_weights has 2 values, but the output is \[4, 3\]"):
        LOSSES["cross_entropy"](class_weights=(1.0, 2.0)).score(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))


# In a model file ----------------------------------------------------------------------------------


@with_options()
def test_losses_are_named_in_model_files(name: str, options: dict[str, Any]) -> None:
    definition = load_model(
        "digits-mlp", settings={"loss": {"kind": name, **{k: _listed(v) for k, v in options.items()}}}
    )
    assert definition.loss.build() == LOSSES[name](**options)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_a_wrong_constant_in_a_model_file_is_told() -> None:
    with pytest.raises(UsageError, match=r"loss.shape: must be a positive number, got -1"):
        load_model("digits-mlp", settings={"loss": {"kind": "gamma", "shape": -1.0}})


@pytest.mark.parametrize("name", ["brier", "spherical", "ranked_probability", "bernoulli"])
def test_other_losses_learn_to_classify(name: str) -> None:
    """Three clusters, by score broadcast with a quick readout, as in every model here; above 90 %, chance is 33 %."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (300,), generator=generator)
    centre = 2 * torch.randn(3, 8, dtype=torch.float64, generator=generator)
    x = centre[label] + 0.5 * torch.randn(300, 8, dtype=torch.float64, generator=generator)
    network = mlp([8, 16, 3])
    learner = Learner(network, RULES["sbd"](), LOSSES[name](), torch.Generator().manual_seed(0))
    hidden, readout = network.incoming["hidden1"], network.incoming["output"]
    groups = [{"params": [p for p in network.synapses(c[0]) if p is not None], "lr": lr}
              for c, lr in ((hidden, 5e-3), (readout, 5e-2))]  # fmt: skip
    optimizer = torch.optim.Adam(groups)
    for _ in range(150):
        optimizer.zero_grad()
        learner.learn(Batch(x[None], label))
        optimizer.step()
    with torch.no_grad():
        assert (network(x).argmax(1) == label).double().mean() > 0.9


def test_labels_become_one_hot() -> None:
    assert torch.equal(as_vector(torch.tensor([2, 0]), torch.zeros(2, 3)), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))

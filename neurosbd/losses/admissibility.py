"""Is a loss fit for score broadcast? The numerical check that its score averages to 0 at the optimum."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.errors import UsageError, nearest
from neurosbd.losses import LOSSES, Described, Loss
from neurosbd.losses.generic import kind_of
from neurosbd.losses.minimiser import minimise
from neurosbd.losses.targets import Targets

DISTRIBUTIONS = 8  # random conditional distributions of y
STARTS = 3  # of the minimisation, for losses that are not convex
TOLERANCE = 1e-6  # relative; the minimiser is found to 1e-10, in float64
VANISHED = 1e-6  # a score this small, relative to its start, is none

Place = Literal["interior", "boundary", "flat", "infinity"]
_WHERE = {
    "interior": "the minimiser lies inside",
    "boundary": "the minimiser lies on the boundary of the outputs, where the score still pulls outwards",
    "flat": "around the minimiser an output does not change the loss of any target, so its score says nothing",
    "infinity": "there is no minimiser: the risk keeps falling as the outputs grow",
}


@dataclass(frozen=True)
class Admissibility:
    """What the check found; true if the loss is admissible.

    admissible: the verdict.
    residual: largest |E[s*|x]| over the conditional distributions, relative to E|s*| there.
    threshold: what it may be: 1e-6; for a loss with kinks and targets that stand for a density, the weight of one.
    mismatch: largest difference between score and derivative of the loss, relative to the derivative; up to 1e-6.
    minimiser: where the worst one lay: interior, boundary, flat or infinity.
    message: all that in words.
    """

    admissible: bool
    residual: float
    threshold: float
    mismatch: float
    minimiser: Place
    message: str

    def __bool__(self) -> bool:
        return self.admissible

    def __str__(self) -> str:
        return self.message


class _Problem(NamedTuple):
    """Conditional distributions of the target, and the outputs to be found."""

    loss: Loss
    support: Tensor  # targets [D, m] or [D, m, k]
    weight: Tensor  # of each, [D, m]
    low: float
    high: float
    continuous: bool

    def spread(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Every output [D, S, C] beside every target of its distribution."""
        starts, atoms = z.shape[1], self.support.shape[1]
        targets = self.support[:, None].expand(-1, starts, *self.support.shape[1:])
        outputs = z[:, :, None].expand(-1, -1, atoms, -1)
        return outputs.reshape(-1, z.shape[2]), targets.reshape(-1, *self.support.shape[2:])

    def risk(self, z: Tensor) -> Tensor:
        """E[l(z, y)|x] of outputs [D, S, C], [D, S]."""
        losses = self.loss.per_example(*self.spread(z)).reshape(*z.shape[:2], -1)
        return (self.weight[:, None] * losses).sum(2)

    def scores(self, z: Tensor) -> Tensor:
        """Of every target, [D, S, m, C]."""
        return self.loss.score(*self.spread(z)).reshape(*z.shape[:2], -1, z.shape[2])

    def mean(self, values: Tensor) -> Tensor:
        """E over the targets, dimension 2."""
        return (self.weight[:, None, :, None] * values).sum(2)


def admissible(
    loss: Loss | str,
    targets: str | Targets | Tensor | None = None,
    *,
    values: int = 3,
    low: float = -math.inf,
    high: float = math.inf,
    seed: int = 0,
) -> Admissibility:
    """Check numerically that the score of a loss averages to 0 at the optimum: what score broadcast rests on.

    For random conditional distributions of y, z* = argmin_z E[l(z, y)|x] is found in float64 by Newton's method from
    several starts, and E[s*|x] measured there. Derivative and score are compared at random outputs besides.

    Args:
        loss: a name of LOSSES, or a loss.
        targets: a kind of them (classes, binary, counts, positive, reals), or the only possible ones [m] or [m, k];
            one alone is the case without noise. None: as the loss says.
        values: k, values of a target, or classes; given targets [m, k] have theirs.
        low: smallest value that the readout can take; 0 for rectified neurons.
        high: largest value that the readout can take.
        seed: of the distributions and starts.

    Returns:
        The verdict with its reason. It is evidence on the distributions tried, not a proof.
    Raises:
        UsageError: if there is no such loss, or it does not say which targets it wants.
    Source: this project, docs/losses.md; the theorem for squared error is B.1 of Erdogan, Pehlevan, Erdogan 2025,
        arXiv 2504.11558.

    >>> print(admissible("poisson"))
    admissible: the score averages to 0 at the optimum (|E s| < 1e-06 E|s|; counts, 8 conditional distributions)
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise UsageError(f"there is no loss '{loss}'{nearest(loss, LOSSES)}")
        loss = LOSSES[loss]()
    if targets is None:
        if not isinstance(loss, Described):
            raise UsageError("this loss does not say which targets are legal; give targets = 'reals' or another kind")
        targets = loss.targets
    generator = torch.Generator().manual_seed(seed)
    kind = targets if isinstance(targets, Tensor) else kind_of(targets)
    if isinstance(kind, Tensor):
        values = kind.shape[1] if kind.ndim == 2 else max(values, int(kind.max()) + 1)
    problem = _posed(loss, kind, values, low, high, generator)
    width = values * (loss.parameters if isinstance(loss, Described) else 1)
    start = torch.randn(DISTRIBUTIONS, STARTS, width, dtype=torch.float64, generator=generator).clamp(low, high)
    mismatch = _mismatch(problem, start)
    residual, threshold, place = _worst(problem, start)
    name = "the given targets" if isinstance(kind, Tensor) else kind.name
    return _judged(residual, threshold, mismatch, place, name)


def _posed(
    loss: Loss, kind: Targets | Tensor, values: int, low: float, high: float, generator: torch.Generator
) -> _Problem:
    """Random conditional distributions over the legal targets; every target of a discrete kind has some weight."""
    continuous = isinstance(kind, Targets) and kind.continuous
    draws = [kind if isinstance(kind, Tensor) else kind.support(values, generator) for _ in range(DISTRIBUTIONS)]
    support = torch.stack([d.double() if d.is_floating_point() else d for d in draws])
    probabilities = torch.rand(support.shape[:2], dtype=torch.float64, generator=generator).clamp_min(1e-6)
    weight = torch.ones_like(probabilities) if continuous else 0.1 - probabilities.log()
    return _Problem(loss, support, weight / weight.sum(1, keepdim=True), low, high, continuous)


def _mismatch(problem: _Problem, z: Tensor) -> float:
    """Largest relative difference between the score and autograd's derivative of the loss."""
    with torch.enable_grad():
        output, target = problem.spread(z)
        leaf = output.detach().requires_grad_()
        total = problem.loss.per_example(leaf, target).sum()
        if not total.requires_grad:
            raise UsageError("the loss does not depend on the outputs by torch operations, so it has no derivative")
        (exact,) = torch.autograd.grad(total, leaf)
    score = problem.loss.score(output, target)
    return ((score - exact).abs().max() / exact.abs().max().clamp_min(1e-300)).item()


def _worst(problem: _Problem, start: Tensor) -> tuple[float, float, Place]:
    """Residual, threshold and place of the distribution that is farthest from E[s*|x] = 0."""
    first = problem.mean(problem.scores(start).abs()).amax(1)  # E|s| of each output at the start, [D, C]
    alive = first.norm(dim=1) * VANISHED

    def settled(z: Tensor, slope: Tensor) -> Tensor:
        size = problem.mean(problem.scores(z).norm(dim=3, keepdim=True))[:, :, 0]
        return (slope.norm(dim=2) <= 1e-10 * size) | (size <= alive[:, None])

    found, value, converged = minimise(problem.risk, start, settled, problem.low, problem.high)
    best = value.argmin(1)
    rows = torch.arange(len(best))
    z = found[rows, best][:, None]
    score = problem.scores(z)
    size = problem.mean(score.norm(dim=3, keepdim=True))[:, 0, 0]
    # Without noise every s* vanishes, and 0/0 says nothing: then it is compared with the score of the start.
    scale = torch.where(size > alive, size, first.norm(dim=1)).clamp_min(1e-300)
    residual = problem.mean(score)[:, 0].norm(dim=1) / scale
    one = 2 * problem.weight.amax(1) * score.norm(dim=3).amax((1, 2)) / scale
    kinked = ~converged[rows, best] & problem.continuous
    threshold = torch.where(kinked, one.clamp_min(TOLERANCE), TOLERANCE)
    places: list[Place] = [_place(problem, z, i, first, residual[i] <= threshold[i]) for i in range(len(z))]
    bad = [p in ("flat", "infinity") for p in places]
    worst = max(range(len(z)), key=lambda i: (bad[i], (residual[i] / threshold[i]).item()))
    return float(residual[worst]), float(threshold[worst]), places[worst]


def _place(problem: _Problem, z: Tensor, i: int, first: Tensor, balanced: Tensor) -> Place:
    """Where the minimiser of distribution i lies."""
    single = problem._replace(support=problem.support[i : i + 1], weight=problem.weight[i : i + 1])
    at = z[i : i + 1]
    here = single.risk(at)[0, 0]
    away = (at + at / at.norm().clamp_min(1e-300) * at.norm().clamp_min(1.0)).clamp(problem.low, problem.high)
    if single.risk(away)[0, 0] < here - 1e-12 * here.abs():
        return "infinity"
    steps = 1e-3 * torch.cat((torch.eye(z.shape[2]), -torch.eye(z.shape[2])))[None].to(z)
    unmoved = (single.risk(at + steps) == here).reshape(2, -1).all(0)
    mute = single.mean(single.scores(at).abs())[0, 0] <= VANISHED * first[i]
    if (unmoved & mute).any():
        return "flat"
    at_edge = bool(((at <= problem.low) | (at >= problem.high)).any())
    return "boundary" if at_edge and not balanced else "interior"


def _judged(residual: float, threshold: float, mismatch: float, place: Place, name: str) -> Admissibility:
    reasons = []
    if mismatch > TOLERANCE or math.isnan(mismatch):
        reasons.append(f"the score is not the derivative of the loss (they differ by {mismatch:.2g} of it)")
    if place != "interior":
        reasons.append(_WHERE[place])
    if not residual <= threshold:
        kink = ", as at a kink or with a score of something else" if place == "interior" else ""
        reasons.append(f"|E s| is {residual:.2g} E|s| at the optimum{kink}; up to {threshold:.0e} would do")
    if reasons:
        return Admissibility(False, residual, threshold, mismatch, place, "not admissible: " + "; ".join(reasons))
    text = (
        f"admissible: the score averages to 0 at the optimum (|E s| < {threshold:.0e} E|s|; {name}, "
        f"{DISTRIBUTIONS} conditional distributions)"
    )
    return Admissibility(True, residual, threshold, mismatch, place, text)

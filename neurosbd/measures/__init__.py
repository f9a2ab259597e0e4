"""What a network is judged by on a split: sums that stay on the device until they are read."""

from collections.abc import Mapping

from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.losses import Loss, PredictsInterval, PredictsMean
from neurosbd.losses.deviance import SQUARE
from neurosbd.losses.pinball import Pinball
from neurosbd.measures.accuracy import Accuracy
from neurosbd.measures.coverage import Coverage
from neurosbd.measures.explained import ExplainedDeviance, ExplainedPinball, RSquared
from neurosbd.measures.measure import Measure
from neurosbd.schema.namespace import is_table

MEASURES: dict[str, type[Accuracy | RSquared | ExplainedDeviance | ExplainedPinball | Coverage]] = {
    "accuracy": Accuracy,
    "r_squared": RSquared,
    "explained_deviance": ExplainedDeviance,
    "explained_pinball": ExplainedPinball,
    "coverage": Coverage,
}
is_table(__name__, MEASURES)

__all__ = [
    "MEASURES", "Accuracy", "Coverage", "ExplainedDeviance", "ExplainedPinball", "Measure", "RSquared", "measures_of",
    "shown", "title", "unmeasured",
]  # fmt: skip


def measures_of(loss: Loss, targets: Tensor) -> tuple[Measure, ...]:
    """What a loss is measured by on a data set; the first says which epoch was the best.

    Args:
        loss: whose outputs are judged.
        targets: of the training split: classes int64 [N], or values [N, k].
    """
    if not targets.is_floating_point():
        return (Accuracy(right_class),)
    found: list[Measure] = []
    if isinstance(loss, PredictsMean):
        found.append(RSquared(loss) if loss.deviance is SQUARE else ExplainedDeviance(loss))
    if isinstance(loss, Pinball):
        found.append(ExplainedPinball.against(loss, targets))
    if isinstance(loss, PredictsInterval) and loss.interval_level > 0:
        found.append(Coverage(loss))
    return tuple(found)


def right_class(batch: Batch, result: BatchResult) -> Tensor:
    """1 where the largest output is that of the class, [B]."""
    return (result.output.argmax(1) == batch.target).double()


def title(name: str) -> str:
    """A measure as a person reads it; of a head 'HEAD.accuracy', 'HEAD.loss'."""
    head, _, own = name.rpartition(".")
    return f"{head} {MEASURES[own].title if own in MEASURES else own}".lstrip()


def shown(name: str, value: float) -> str:
    """Its value as a person reads it: a percentage, or a number with three decimals."""
    own = name.rpartition(".")[2]
    return f"{value:.2%}" if own in MEASURES and MEASURES[own].percent else f"{value:.3f}"


def unmeasured(unjudged: Mapping[str, str]) -> list[str]:
    """Why outputs have no loss and no measure: a sentence for each.

    Args:
        unjudged: names of outputs that nothing teaches, each with the reason.
    """
    return [f"'{name}' has no loss and no accuracy: {why}" for name, why in unjudged.items()]

"""How Hebbian every layer's update looks at the last checkpoint, on one large batch and with nothing learning.

For the descent g = -gradient that the rule leaves (before weight decay, momentum and learning rate) and Hebb's change
H = sum over batch and time of drive x pre, for the synapses of a connection with weight W:

    cosine  = <g, H> / (|g| |H|)         positive is Hebbian, negative anti-Hebbian
    toward  = <g, W> / (|g| |W|)         1 where the rule and weight decay balance, g = decay W
    balance = <g, H> / (decay <W, H>)    1 there, too, for any rule and loss; without biases <W, H> is sum |drive|^2

The network is in evaluation mode, so that nothing is dropped and adaptive units act on what they remember, and the
batch is as large as time allows: noise of small batches pulls the cosine towards anti-Hebbian. A positive cosine does
not identify a Hebbian mechanism: it is what weight decay does to every rule near convergence. Where |g| is nothing
beside |W| (below a millionth of it) there is no direction, and the cosine is left out.

Source: Koplow, Poggio, Ziyin 2025, arXiv 2505.18069. Differs: g is whatever the rule hands to the optimizer; toward and
balance are ours. With AdamW, whose decay is apart from the gradient, g = decay W is not where they balance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosbd import Batch, Run, UsageError
from neurosbd.learning.learner import Learner
from neurosbd.recording.probes import Correspondence
from neurosbd.report import COLOURS, panels, quantity_field
from neurosbd.runs.batches import DatasetBatches, data_of
from neurosbd.runs.run import CHECKPOINT
from neurosbd.seeds import generator

FLOOR = 1e-6  # of |W|; below, a direction of the descent is rounding
MOST = 10_000  # examples
WORK = 2e10  # multiplications of the forward pass


@dataclass(frozen=True)
class Result:
    """cosine, toward: NaN where the descent has vanished; balance: NaN without weight decay."""

    connection: tuple[str, ...] = quantity_field("1")
    cosine: np.ndarray = quantity_field("1", "connection")
    toward: np.ndarray = quantity_field("1", "connection")
    balance: np.ndarray = quantity_field("1", "connection")
    norm: np.ndarray = quantity_field("d loss / d weight", "connection")
    weight_decay: float = quantity_field("1")
    examples: int = quantity_field("1")
    epochs: int = quantity_field("1")


@torch.no_grad()
def compared(descent: Tensor, hebb: Tensor, weight: Tensor, decay: float) -> tuple[float, float, float, float]:
    """cosine, toward, balance and norm of one connection.

    Args:
        descent: -gradient.
        hebb: Hebb's change.
        weight: W.
        decay: of the weights.
    """
    norm, own = descent.norm(), weight.norm()
    if norm <= FLOOR * own or norm == 0:
        return np.nan, np.nan, np.nan, float(norm)
    cosine = (descent * hebb).sum() / (norm * hebb.norm())
    toward = (descent * weight).sum() / (norm * own)
    balance = float((descent * hebb).sum() / (decay * (weight * hebb).sum())) if decay else np.nan
    return float(cosine), float(toward), balance, float(norm)


def measured(learner: Learner, batch: Batch, decay: float, noise: torch.Generator) -> dict[str, tuple[float, ...]]:
    """What `compared` says of every plastic connection; the network is put into evaluation mode, weights stay.

    Args:
        learner: of a checkpoint, for no other use.
        batch: a large one.
        decay: of the weights.
        noise: of neurons that draw.
    """
    network = learner.network.eval()
    network.zero_grad()
    hebb = Correspondence(network)
    learner.learn(batch, (hebb,), noise)
    gradients = {name: network.weights[name].grad for name in hebb.hebb}
    return {
        name: compared(-gradient, hebb.hebb[name], network.weights[name].detach(), decay)
        for name, gradient in gradients.items()
        if gradient is not None
    }


def analyse(run: Run) -> Result:
    """Show a large batch of the training to the last checkpoint, and look at what its rule would change.

    Raises:
        UsageError: if the run has no data set or no checkpoint, or the data are no longer there.
    """
    definition = run.definition
    if definition.task or definition.protocol or definition.simulation:
        raise UsageError(f"{run.path}: was not trained on a data set, of which a large batch could be shown")
    if not (run.path / CHECKPOINT).exists():
        raise UsageError(f"{run.path}: has no checkpoint yet, so there are no weights to look at")
    data, network = data_of(definition), definition.network()
    work = network.summary().multiplications * (definition.time.steps or 1)
    examples = max(1, min(MOST, len(data.train), max(256, int(WORK / max(1, work)))))
    training = definition.training.model_copy(update={"batch_size": examples})
    batches = DatasetBatches(definition.model_copy(update={"training": training}).build(), data, torch.device("cpu"))
    decay = float(getattr(definition.training.optimizer, "weight_decay", 0.0))
    found = measured(run.learner(), batches.batch(0, 0), decay, generator(definition.seed, "noise", 0, 0))
    return result(found, decay, examples, len(run.metrics))


def result(found: Mapping[str, tuple[float, ...]], decay: float, examples: int, epochs: int) -> Result:
    """As arrays."""
    cosine, toward, balance, norm = np.array(list(found.values()), float).reshape(-1, 4).T
    return Result(tuple(found), cosine, toward, balance, norm, decay, examples, epochs)


def figure(result: Result) -> Any:
    """Cosines with Hebb's change and with the weights, of every connection."""
    drawn, (left, right) = panels(2, width=4.2, height=1.4 + 0.35 * len(result.connection))
    places = np.arange(len(result.connection))
    for ax, values, title in ((left, result.cosine, "Descent against Hebb's change"),
                              (right, result.toward, "Descent against the weights")):  # fmt: skip
        ax.barh(places, values, color=[COLOURS[k % len(COLOURS)] for k in places])
        ax.axvline(0, color="0.5", linewidth=1)
        ax.set(title=title, xlabel="cosine", xlim=(-1.05, 1.05), yticks=places, ylim=(len(places) - 0.5, -0.5))
    left.set_yticklabels(result.connection, fontsize=8)
    right.set_yticklabels([])
    return drawn


def caption(result: Result) -> str:
    """The cosines, and what has to be known to read them."""
    there = zip(result.connection, result.cosine, result.toward, strict=True)
    said = [f"{name} {c:+.2f} ({w:+.2f})" if np.isfinite(c) else f"{name}: no descent left" for name, c, w in there]
    return (
        f"Cosine of the descent with drive x pre (in brackets with the weights) on {result.examples:,} training "
        f"examples at once, in evaluation mode, after {result.epochs} epochs, weight decay {result.weight_decay:g}: "
        f"{', '.join(said)}. A positive value does not identify a Hebbian mechanism: where weight decay and a rule "
        f"balance, every rule looks Hebbian."
    )

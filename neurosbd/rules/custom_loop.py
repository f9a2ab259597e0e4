"""A learner for a training loop of one's own, from names or from objects."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from neurosbd.errors import UsageError
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES, Loss
from neurosbd.losses.custom import as_loss
from neurosbd.losses.generic import PerExample
from neurosbd.network.network import Network
from neurosbd.rules import RULES, Rule
from neurosbd.schema.plugins import find, nearest_part
from neurosbd.seeds import generator

T = TypeVar("T")


def learner(
    network: Network, rule: str | Rule = "sbd", loss: str | Loss | PerExample | None = None, seed: int = 0
) -> Learner:
    """What carries out a rule on a network: it fills `.grad`, and any optimizer of torch takes it from there.

        optimizer.zero_grad()
        learner.learn(neurosbd.Batch(x[None], labels))
        optimizer.step()
        learner.after_step()

    Args:
        network: with its parameters on their device already.
        rule: a name of `neurosbd.rules`; or one made from it, for other parts: `neurosbd.rules["sbd"](delay=1)`.
        loss: a name of `neurosbd.losses`; a loss; or a function (output [B, C], target) -> loss of each example [B].
            None: the one that the rule is defined for, else cross_entropy.
        seed: of the projections, >= 0: those of `neurosbd.fit` under this seed.

    Returns:
        The learner: `learn`, `after_step`, `progress`, `state_dict`, `load_state_dict`.
    Raises:
        UsageError: if a name is unknown, or the rule is defined for another loss.
        ValueError: if the rule cannot be carried out on this network.

    >>> import neurosbd
    >>> learner(neurosbd.load_model("digits-mlp").network(), "ebd").loss
    SquaredError()
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed must be a whole number >= 0, got {seed!r:.100}")
    rule = _named("rule", rule, RULES) if isinstance(rule, str) else rule
    needed = getattr(rule, "loss", None)
    asked = loss if loss is not None else needed or "cross_entropy"
    chosen = _named("loss", asked, LOSSES) if isinstance(asked, str) else as_loss(asked, "loss")
    if needed is not None and type(chosen) is not type(LOSSES[needed]()):
        raise UsageError(
            f"this rule is that of loss '{needed}', got {loss!r:.100}; leave loss out, or choose rule 'sbd', which "
            f"takes any loss"
        )
    return Learner(network, rule, chosen, generator(seed, "projection"))


def _named(kind: str, name: str, table: Mapping[str, Callable[..., T]]) -> T:
    if find(table, name) is None:
        raise UsageError(f"there is no {kind} '{name}'{nearest_part(name, table)}")
    return table[name]()

"""Health of a network: units that never speak or never rest, activity that explodes, accuracy that is none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from neurosbd.axes import inner
from neurosbd.errors import UsageError
from neurosbd.learning.simulation import unroll
from neurosbd.losses import Loss
from neurosbd.measures import title
from neurosbd.network.network import INPUT, Frame, Network
from neurosbd.text import html_table

DEAD_FRACTION = 0.9  # of a layer's units or channels silent, or spiking all the time, on the whole test set
EXPLODING = 1e3  # mean |activity|, in units where the input has variance 1
SURE, QUITE_SURE = 1.645, 3.0  # standard errors from chance: 5 % and 0.1 % of guesses are as far below it
_SAME = 1e-6  # relative difference of losses that are the same but for rounding


@dataclass(frozen=True)
class LayerHealth:
    """One population over a test set."""

    name: str
    silent: float  # fraction of units (conv: channels) that were 0 for every example
    magnitude: float  # mean |activity|
    saturated: float = 0.0  # fraction of spiking units (conv: channels) that spiked at every step of every example
    units: int = 0
    spiking: bool = False
    role: str = "population"  # or 'readout', 'head'
    plastic: bool = True  # whether any synapses onto it learn

    @property
    def complaint(self) -> str | None:
        """What is wrong, with figures and what to try; None if nothing is."""
        where = f"{self.role} '{self.name}'"
        if self.name == INPUT:
            return _DEAD_INPUT if self.silent == 1 else None
        if self.silent > DEAD_FRACTION:
            never = "never spike" if self.spiking else "are 0"
            return f"{where}: {self.silent:.0%} of its units {never} for every test example; {self._awaken()}"
        if self.saturated > DEAD_FRACTION:
            return (
                f"{where}: {self.saturated:.0%} of its units spike at every step of every test example, so they tell "
                f"nothing apart; try smaller initial weights onto it, a higher v_threshold, "
                f"{'a lower learning rate, ' if self.plastic else ''}or a lower rate of the encoder"
            )
        if not self.magnitude < EXPLODING:
            return f"{where}: mean |activity| is {self.magnitude:.3g}; try " + (
                "a lower learning rate for it, rule = 'sbd' (decorrelation bounds activity), or weight decay"
                if self.plastic
                else "smaller initial weights onto it, which do not learn, and see to the layers before it"
            )
        return None

    def _awaken(self) -> str:
        """What to try on a silent layer."""
        if self.spiking:
            again = "; a lower learning rate if it has spiked before" if self.plastic else ""
            return (
                "try larger initial weights onto it (gain), a bias, a lower v_threshold, a longer tau_mem, more steps, "
                f"or a higher rate of the encoder{again}"
            )
        if self.role != "population":
            whole = "the network" if self.role == "readout" else "it"
            return f"{whole} says the same of all; try larger initial weights onto it, and see to the layers before it"
        slower = "a lower learning rate for it" if self.plastic else "larger initial weights onto it"
        return f"try {slower}, a bias, or leaky_relu"


_DEAD_INPUT = (
    "population 'input': all of it is 0 for every test example, so there is nothing to learn from; check the encoder "
    "(its rate, steps and range of values) and the data"
)


@dataclass(frozen=True)
class Health:
    """The populations of a network over some inputs; printed, a table and what to try."""

    layers: tuple[LayerHealth, ...]

    @property
    def complaints(self) -> dict[str, str]:
        """What is wrong, by population; nothing if all are well."""
        return {layer.name: layer.complaint for layer in self.layers if layer.complaint}

    def activities(self, dt: float) -> dict[str, float]:
        """Of every population but the input: 'NAME.rate' in Hz where it spikes, else 'NAME.activity', mean |activity|.

        Args:
            dt: of a step, s.
        """
        return {
            f"{layer.name}.rate" if layer.spiking else f"{layer.name}.activity": layer.magnitude
            / (dt if layer.spiking else 1)
            for layer in self.layers
            if layer.name != INPUT
        }

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*table, *self._verdicts()])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        return html_table("health", rows, head) + "".join(f"<p>{escape(text)}</p>" for text in self._verdicts())

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        rows = [("population", "units", "silent", "saturated", "mean |activity|")]
        for layer in self.layers:
            saturated = f"{layer.saturated:.0%}" if layer.spiking else "-"
            rows.append((layer.name, f"{layer.units:,}", f"{layer.silent:.0%}", saturated, f"{layer.magnitude:.3g}"))
        return rows

    def _verdicts(self) -> list[str]:
        return list(self.complaints.values()) or ["all populations are well"]


def health(network: Network, x: Tensor, generator: torch.Generator | None = None) -> Health:
    """How the populations of a network fare on some inputs: silent, saturated, exploding; with what to try.

    The network is evaluated as in a test (standardised units act on what they remember) and left as it was. In a run of
    `fit` the same is looked at in every epoch, on the whole test split.

    Args:
        network: any.
        x: [B, *input size], shown for one step, or [T, B, *input size]; as many examples as tell units apart.
        generator: source of noise, for networks that have any; none: seed 0.

    Returns:
        A record per population, the input's first; `complaints` has what is wrong.
    Raises:
        UsageError: if the network cannot be shown `x`.

    >>> import neurosbd, torch
    >>> network = neurosbd.load_model("digits-mlp").network()
    >>> health(network, torch.zeros(5, 1, 8, 8)).complaints["input"].split(":")[0]
    "population 'input'"
    """
    network.check_shown(x, steps=isinstance(x, Tensor) and x.ndim != 1 + len(network.input_size))
    if not x.numel() and math.prod(network.input_size):
        raise UsageError(f"x is {list(x.shape)}, which has no examples; give some")
    health_check, mode = HealthCheck(network), network.training
    network.eval()
    try:
        shown = x if x.ndim == 2 + len(network.input_size) else x[None]
        unroll(network, shown, (health_check,), generator=generator or torch.Generator().manual_seed(0))
    finally:
        network.train(mode)
    return Health(tuple(health_check.read()))


class HealthCheck:
    """Observer that follows all populations; sums stay on the device until `read`."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._spoke: dict[str, Tensor] = {}
        self._rested: dict[str, Tensor] = {}
        self._total: dict[str, Tensor] = {}
        self._count = 0
        self._steps = 0

    def __call__(self, t: int, frame: Frame) -> None:
        """Look at one frame."""
        for name in self.network.populations:
            value = frame.activity[name].value
            active = value.ne(0)
            over = (0, *inner(value))  # a unit speaks where any position or component of it does
            spoke = active.any(over)
            magnitude = value.abs().mean(dtype=torch.float64)
            self._spoke[name] = spoke | self._spoke[name] if name in self._spoke else spoke
            self._total[name] = self._total[name] + magnitude if name in self._total else magnitude
            if hasattr(frame.state.neurons.get(name), "spike"):
                rested = ~active.all(over)
                self._rested[name] = rested | self._rested[name] if name in self._rested else rested
        self._count += 1
        self._steps = max(self._steps, t + 1)

    def read(self) -> list[LayerHealth]:
        """One record per population; a spike in the only step of a run saturates nobody."""
        return [self._layer(name) for name in self.network.populations if self._count]

    def _layer(self, name: str) -> LayerHealth:
        spiking = name in self._rested
        saturated = 1 - self._rested[name].double().mean().item() if spiking and self._steps > 1 else 0.0
        return LayerHealth(
            name,
            1 - self._spoke[name].double().mean().item(),
            self._total[name].item() / self._count,
            saturated,
            self.network.populations[name].named_axes.neurons,
            spiking,
            "readout" if name == self.network.readout else "head" if name in self.network.heads else "population",
            any(connection.plastic for connection in self.network.incoming.get(name, ())),
        )


@dataclass(frozen=True)
class Guess:
    """What anybody reaches on a test of classes without learning: accuracy 1 / classes.

    classes: how many there are.
    examples: in the test.
    loss: of an output that says the same of every class.
    """

    classes: int
    examples: int
    loss: float

    @classmethod
    def of(cls, loss: Loss, classes: int, examples: int) -> "Guess":
        """That of a loss; of every class alike."""
        found = loss.per_example(torch.zeros(classes, classes), torch.arange(classes)).mean().item()
        return cls(classes, examples, found)

    def complaint(self, line: Mapping[str, float], last: bool) -> str | None:
        """What is wrong with the metrics of an epoch, without what to try; None if nothing is.

        An accuracy is below chance if guesses would be so rarely; not above it matters after the last epoch only.
        """
        if abs(line["test_loss"] - self.loss) <= _SAME * abs(self.loss):
            return (
                f"the test loss is {line['test_loss']:.6f}, exactly that of an output that says the same of all "
                f"{self.classes} classes: nothing has been learned"
            )
        accuracy, chance = line["test_accuracy"], 1 / self.classes
        error = math.sqrt(chance * (1 - chance) / self.examples)
        told = f"test accuracy {accuracy:.2%}"
        if accuracy < chance - (SURE if last else QUITE_SURE) * error:
            return f"{told} is below chance ({chance:.2%} for {self.classes} classes): what has been learned misleads"
        if last and accuracy <= chance + SURE * error:
            of = f"{self.classes} classes, {self.examples:,} examples"
            return f"{told} cannot be told from chance ({chance:.2%} for {of})"
        return None


_AVERAGED = ("sbd", "ebd")  # rules whose projection is a running correlation


def remedy(rule: str, spiking: bool) -> str:
    """What to try where nothing, or the reverse, is learned; the recipe is for networks of rates."""
    own = (
        ["rule.neuromodulator.forgetting = 0.99 (correlations averaged over more batches)"] if rule in _AVERAGED else []
    )
    recipe = [] if spiking else ["recipe 'standard'"]
    tried = ", ".join([*own, *recipe, "a lower learning rate", "more epochs"])
    return f"try {tried}; rule '{'bptt' if spiking else 'bp'}' tells whether the data can be learned at all"


def unexplained(line: Mapping[str, float]) -> str | None:
    """What is wrong with the share explained after a training; None if it is above that of a constant prediction, 0."""
    for name in ("r_squared", "explained_deviance", "explained_pinball"):
        value = line.get(f"test_{name}", 0.0)
        if value < 0:
            return f"test {title(name)} {value:.3f} is below 0: a constant, such as the mean, would predict better"
    return None

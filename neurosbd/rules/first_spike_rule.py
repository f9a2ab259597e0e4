"""What rules have in common that go by the first spikes of units: whom they fit, and what they leave at synapses."""

from typing import ClassVar

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.learning.passes import Run, add_gradient
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.network.network import Connection, Network
from neurosbd.rules.causal_window import CausalWindow
from neurosbd.rules.first_spikes import check_adding


class FirstSpikeRule(Rule[TensorState]):
    """What rules declare that go by the first spike of every unit, and change its synapses by a causal window."""

    sums_over_examples: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    spares_silent: ClassVar[bool] = False

    window: CausalWindow

    @property
    def scored(self) -> bool:
        """The score of a loss does not reach it."""
        return False

    @property
    def states_changes(self) -> bool:
        """`a_plus` and `a_minus` say by how much a weight changes."""
        return True

    def check_onto(self, network: Network, population: str) -> None:
        """Raise ValueError unless units add up what arrives, and at once."""
        check_adding(network.populations[population])
        for connection in network.incoming[population]:
            if network.delays[connection.name]:
                raise ValueError(
                    f"connection '{connection.name}': this rule learns from spikes that arrive at once; leave out its "
                    f"delay"
                )

    def leave(
        self, run: Run, connection: Connection, error: Tensor, time: Tensor, arrived: Tensor, examples: int
    ) -> None:
        """Minus the mean change over the examples of the whole batch, where the connection is plastic; see
        `CausalWindow.change`."""
        if connection.plastic:
            synapses = run.network.synapses(connection)
            change = self.window.change(error, time, arrived, synapses.weight.flatten(1))
            add_gradient(synapses, Synapses(change.div_(-examples).view_as(synapses.weight), None))

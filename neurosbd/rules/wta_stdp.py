"""STDP by winners: channels of a map that spike first learn what they have seen, and nobody is told a label."""

from dataclasses import field

from torch.nn import functional

from neurosbd.connections import Conv2d, Dense
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import TensorState
from neurosbd.losses import Loss
from neurosbd.network.network import Connection, Network
from neurosbd.rules.causal_window import CausalWindow
from neurosbd.rules.first_spike_rule import FirstSpikeRule
from neurosbd.rules.first_spikes import first_spikes, show, threshold_of
from neurosbd.rules.lateral_inhibition import LateralInhibition, receptive_fields
from neurosbd.schema.constants import Count, NotNegative, Whole, constants


@constants(called="wta_stdp")
class WinnerSTDP(FirstSpikeRule):
    """Populations learn one after another, each for an equal share of the training, by the spikes of their winners.

        t[n] = first step with sum of w[c, i] over inputs i of unit n that have spiked > threshold, / steps
        d weight[c, i] = - mean_b sum over winners n of channel c of change(t[b, n], t[b, i])

    Args:
        window: what a winner does to the synapses of its channel.
        inhibition: who wins.
    """

    window: CausalWindow = field(default_factory=CausalWindow)
    inhibition: LateralInhibition = field(default_factory=LateralInhibition)

    @property
    def hears_loss(self) -> bool:
        """Nor does the readout learn from it."""
        return False

    def check(self, network: Network, loss: Loss | None) -> None:
        """Integrate-and-fire units that only add up, behind dense or convolutional synapses."""
        for name in self.populations(network):
            self.check_onto(network, name)
            for connection in network.incoming[name]:
                self._check(connection)

    def _check(self, connection: Connection) -> None:
        geometry, where = connection.geometry, f"connection '{connection.name}'"
        if not isinstance(geometry, Dense | Conv2d) or geometry.bias:
            raise ValueError(
                f"{where}: this rule learns dense and convolutional connections without a bias; set kind = 'conv2d', "
                f"bias = false"
            )
        if isinstance(geometry, Conv2d) and geometry.pool_drive is not None:
            raise ValueError(
                f"{where}: this rule learns from the inputs of one winner, but pool_drive joins several positions; "
                f"set pool of the next connection instead"
            )

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """Who spikes first in the population whose turn it is, and what that does to the weights of its channel."""
        network = run.network
        taught = self.populations(network)
        name = taught[min(int(run.progress.number * len(taught)), len(taught) - 1)]
        population = network.populations[name]
        showing = show(run, batch, 0, name)
        threshold = threshold_of(population).to(showing.potentials)
        winners = self.inhibition.among(first_spikes(showing.potentials, threshold))
        error = functional.one_hot(winners.channel, population.size[0]).to(showing.potentials)
        time = winners.time[:, None].expand_as(error)
        examples = batch.examples(showing.potentials.shape[1])
        for connection in network.incoming[name]:
            seen = receptive_fields(connection.geometry, showing.arrived[connection.name], winners)
            self.leave(run, connection, error, time, seen, examples)
        return run.result()

    def schedules(self) -> str:
        """Who learns."""
        return "the turns of the populations"


def wta_stdp(
    a_plus: NotNegative = 0.1,
    a_minus: NotNegative = 0.1,
    slope: NotNegative = 0.0,
    w_min: float = 0.0,
    w_max: float = 1.0,
    winners: Count = 4,
    radius: Whole = 2,
) -> WinnerSTDP:
    """STDP by winners: the units of a map that spike first learn what made them spike, each for its whole channel.

        d weight[c, i] = -a_plus f_plus(w)     where input i of the winner of channel c spiked by the time of it
                          a_minus f_minus(w)   elsewhere, and of inputs that stay silent
        f_plus = exp(-slope (w - w_min) / (w_max - w_min)),   f_minus = exp(-slope (w_max - w) / (w_max - w_min))

    The first of all to spike wins; it silences its channel, and all channels within `radius` of it; then the first of
    the rest, up to `winners` of them. Without a teacher; a readout is taught afterwards, by s2_stdp say.

    Args:
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        slope: how much less a weight moves near the bound it moves to, >= 0; 0: the same everywhere (additive).
        w_min: bound below, for `slope`.
        w_max: bound above, for `slope`.
        winners: most units that learn from an example, each of another channel.
        radius: rows and columns around a winner in which no other unit wins.
    Source: Kheradpisheh, Ganjtabesh, Thorpe, Masquelier 2018, Neural Netw. 99, arXiv 1611.01421 (competition); Falez,
        Tirilly, Bilasco, Devienne, Boulet 2019, IJCNN, arXiv 1904.01908 (window with a slope).
    Differs: thresholds stay; a batch is the mean over examples that all see one weight; in the former a change goes
        with w (1 - w).
    """
    return WinnerSTDP(CausalWindow(a_plus, a_minus, slope, w_min, w_max), LateralInhibition(winners, radius))

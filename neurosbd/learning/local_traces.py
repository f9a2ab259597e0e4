"""What a local rule follows in a run, and hands on when the run goes on over several batches."""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field

from torch import Tensor

from neurosbd.network.network import Connection
from neurosbd.synapses import TransmissionState


@dataclass
class LocalTraces:
    """Traces that live as long as a run.

    eligibility, plasticity: states by connection.
    filtered: activity as the neuromodulator sees it, by population.
    underway: third factors on their way, by population.
    synapses: what arrived as their responses let it be felt, by connection with dynamics.
    """

    eligibility: dict[str, object] = field(default_factory=dict)
    plasticity: dict[str, object] = field(default_factory=dict)
    filtered: dict[str, Tensor] = field(default_factory=dict)
    underway: dict[str, deque[Tensor | None]] = field(default_factory=dict)
    synapses: dict[str, TransmissionState] = field(default_factory=dict)

    def copy(self, connection: Connection) -> "LocalTraces":
        """Those of a connection, for somebody who goes a step of their own from here."""
        name = connection.name
        eligibility, plasticity = (
            {name: deepcopy(kind[name])} if name in kind else {} for kind in (self.eligibility, self.plasticity)
        )
        return LocalTraces(eligibility, plasticity, synapses={k: v for k, v in self.synapses.items() if k == name})

"""[population.NAME] and [[connection]] of a model file: the parts of a network."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, PlainValidator, SerializeAsAny, model_validator

from neurosbd.axes import DEFAULTS, AxisName, named
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS, WIRINGS, Initialiser, Pooling, Wiring
from neurosbd.connections.precision import Precision, in_precision
from neurosbd.constraints import CONSTRAINTS
from neurosbd.distributions import DISTRIBUTIONS
from neurosbd.expansions import EXPANSIONS
from neurosbd.expansions.expansion import Expansion
from neurosbd.network.checks import legal_label
from neurosbd.network.populations import Connection, Role, connection_name
from neurosbd.neuromodulators import LAYOUTS, NEUROMODULATORS, Layout
from neurosbd.neuromodulators.neuromodulator import Neuromodulator
from neurosbd.neurons import NEURONS, RATES
from neurosbd.neurons.neuron import Compartment, Neuron
from neurosbd.plasticity import PLASTICITIES, Plasticity
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep
from neurosbd.schema.constants import Distribution, Range, Share
from neurosbd.schema.schema import Entry, OneOf, Record
from neurosbd.schema.units import quantity
from neurosbd.surrogates import SURROGATES, Surrogate
from neurosbd.synapses import RESPONSES, SHORT_TERMS, SYNAPSES, Response, ShortTerm, Synapse

Count = Annotated[int, Range(least=1, most=2**31 - 1)]

NESTED = {  # which table a constant that is a part itself is an entry of
    Surrogate: SURROGATES, Distribution: DISTRIBUTIONS, Neuron: RATES, Initialiser: INITIALISERS, Pooling: POOLINGS,
    Plasticity: PLASTICITIES, Neuromodulator: NEUROMODULATORS, Layout: LAYOUTS, Expansion: EXPANSIONS,
    Homeostasis: HOMEOSTASES, Upkeep: UPKEEPS, Wiring: WIRINGS, Response: RESPONSES, Synapse: SYNAPSES,
    ShortTerm: SHORT_TERMS,
}  # fmt: skip
ConstraintEntry = Annotated[Entry, OneOf(CONSTRAINTS)]
PlasticityEntry = Annotated[Entry, OneOf(PLASTICITIES, NESTED)]

SynapseEntry = Annotated[Entry, OneOf(SYNAPSES, NESTED)]
ShortTermEntry = Annotated[Entry, OneOf(SHORT_TERMS)]

_STEPS = Range(least=0, most=100_000)
_DRAWN_DELAY = OneOf(DISTRIBUTIONS)


def read_delay(value: object) -> int | float | str | Entry | None:
    """A delay as a file says it: steps, a time in s or with its unit, or a distribution of times.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, Mapping | Entry):
        return _DRAWN_DELAY.checked(Range(unit="s").read(value))
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and _STEPS.admits(value)):
        return value
    if isinstance(value, float) or (isinstance(value, str) and quantity(value, "s") is not None):
        return value
    raise ValueError(
        f"must be a number of steps from 0 to 100,000, a time such as '1.5 ms', or {{ kind = 'uniform', low = '1 ms', "
        f"high = '3 ms' }}, got {value!r}"
    )


class ConnectionEntry(Entry):
    """[[connection]]: the ends, whether it learns, and a geometry with its constants."""

    pre: str
    post: str
    plastic: bool = True
    delay: Annotated[int | float | str | SerializeAsAny[Entry] | None, PlainValidator(read_delay)] = (
        None  # on the way: steps, or a time, '1.5 ms', or what it is drawn from for every synapse; none: 0 forward, 1
        # for lateral, recurrent and feedback connections
    )
    compartment: Compartment = "soma"  # of the post neuron, if it has any
    constraints: tuple[ConstraintEntry, ...] = ()  # what its weights obey, whatever learns them, in this order
    plasticity: PlasticityEntry | None = None  # that its synapses follow; none: that of the rule
    label: Annotated[str, AfterValidator(legal_label)] | None = None  # for several between the same two populations
    synapse: SynapseEntry = Field(default_factory=lambda: {"kind": "delta"}, validate_default=True)
    short_term: ShortTermEntry | None = None  # what the spikes before leave of a spike; none: all of it

    @property
    def name(self) -> str:
        """'pre->post', with its label 'pre->post (label)'."""
        return connection_name(self.pre, self.post, self.label)

    def connection(self, precision: Precision) -> Connection:
        """The connection that is described, with operands of a precision."""
        constraints, geometry = tuple(each.build() for each in self.constraints), in_precision(self.build(), precision)
        plasticity = self.plasticity and self.plasticity.build()
        delay = self.delay.build() if isinstance(self.delay, Entry) else self.delay
        where = (self.plastic, delay, self.compartment)
        dynamics = (self.synapse.build(), self.short_term and self.short_term.build())
        return Connection(self.pre, self.post, geometry, *where, constraints, plasticity, self.label, *dynamics)


NeuronEntry = Annotated[Entry, OneOf(NEURONS, NESTED)]
GeometryEntry = Annotated[ConnectionEntry, OneOf(CONNECTIONS, NESTED, ConnectionEntry)]


class PopulationSpec(Record):
    """[population.NAME]."""

    size: tuple[Count, ...] = Field(min_length=1)
    axes: tuple[AxisName, ...] | None = None  # what it counts; none: units, or channels, height and width
    neuron: NeuronEntry | None = None
    role: Role | None = None  # 'head': judged by itself; 'readout': the output, else the last
    dropout: Share = 0.0  # of its units that send nothing in a run while the network learns

    @model_validator(mode="before")
    @classmethod
    def _by_length(cls, value: object) -> object:
        """Axes that are not named are those of a size so long."""
        if not isinstance(value, Mapping) or value.get("axes") is not None or not isinstance(value.get("size"), tuple):
            return value
        return {**value, "axes": DEFAULTS.get(len(value["size"]))}

    @model_validator(mode="after")
    def _named(self) -> "PopulationSpec":
        named(self.size, self.axes)
        return self

"""How the synapses of a network learn by a local rule: worked out, or refused, before anything runs."""

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from torch import Tensor

from neurosbd.connections.delayed import Delayed, needs_dense
from neurosbd.connections.sides import Sides
from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import is_matrix
from neurosbd.constraints import Bounds, Held, Nothing
from neurosbd.eligibility import ELIGIBILITIES, EligibilityName
from neurosbd.eligibility.local import MATRIX, Selective, Site
from neurosbd.learning.composition import Composition
from neurosbd.network.network import Connection, Network
from neurosbd.network.transmitting import leak_time
from neurosbd.neurons.neuron import Coupled
from neurosbd.plasticity import PLASTICITIES, Bounded, ThreeFactor, Tracking
from neurosbd.plasticity.plasticity import Plasticity, adds_up, takes_blocks, takes_lists


class Plan(NamedTuple):
    """How the synapses of a connection learn: which plasticity and eligibility they follow."""

    connection: Connection
    plasticity: Plasticity
    eligibility: Any  # an entry of ELIGIBILITIES
    in_blocks: bool  # whether several steps at once


class NetworkPlan(NamedTuple):
    """How a network learns by a rule, worked out before it runs, for as long as the network stays as it is wired."""

    network: weakref.ref[Network]
    rewired: int
    ruled: list[str]  # see `ruled_populations`
    outgoing: dict[str, str]  # see `outgoing`, by population that has such a connection
    plans: dict[str, list[Plan]]  # of the plastic connections onto every population
    kappa: float | None  # see `_kappa`

    @classmethod
    def of(cls, network: Network, rule: Composition) -> "NetworkPlan":
        """What is asked of a network once."""
        ruled = ruled_populations(network, rule)
        ahead = {name: connection for name in ruled if (connection := outgoing(network, name)) is not None}
        return cls(weakref.ref(network), network.rewired, ruled, ahead, plans(network, rule), _kappa(network))

    def holds(self, network: Network) -> bool:
        """Whether it is of this network as it is."""
        return self.network() is network and self.rewired == network.rewired


def ruled_populations(network: Network, rule: Composition) -> list[str]:
    """Populations with plastic synapses that follow the rule; heads, and a readout that descends its own gradient, do
    not."""
    names = [name for name in network.incoming if plastic(network, name) and name not in network.heads]
    return [name for name in names if name != network.readout or rule.readout == "rule"]


def plastic(network: Network, name: str) -> list[Connection]:
    """Plastic connections onto a population."""
    return [connection for connection in network.incoming[name] if connection.plastic]


def rule_bounds(network: Network, rule: Composition) -> dict[str, Held]:
    """Connection -> bounds that its plasticity, its own or that of the rule, sets to its weights, for
    `Network.constrain`; {}: none."""
    found, ruled = {}, ruled_populations(network, rule)
    for connection in (c for name in network.incoming for c in plastic(network, name)):
        own = connection.plasticity
        bounds = rule.bounds if own is None and connection.post in ruled else None
        bounds = own.bounds if isinstance(own, Bounded) else bounds
        if bounds == (-math.inf, math.inf):
            bounds = None
        if bounds is not None:
            found[connection.name] = Held(Bounds(*bounds), Nothing())
    return found


def outgoing(network: Network, name: str) -> str | None:
    """A dense connection without pooling from a population to the readout, weight [C, units], if there is one."""
    for connection in network.incoming[network.readout]:
        weight = network.weights[connection.name]
        size = network.populations[name].size
        if connection.pre == name and name != network.readout and is_matrix(weight) and weight.shape[1:] == size:
            return connection.name
    return None


def plans(network: Network, rule: Composition) -> dict[str, list[Plan]]:
    """How the plastic connections onto every population learn, by population.

    Raises:
        ValueError: naming the population, if one cannot.
    """
    found: dict[str, list[Plan]] = {}
    for name in network.incoming:
        by_gradient = name in network.heads or (name == network.readout and rule.readout == "gradient")
        each = [_plan(network, rule, connection, by_gradient) for connection in plastic(network, name)]
        if each:
            found[name] = each
    return found


def _plan(network: Network, rule: Composition, connection: Connection, by_gradient: bool) -> Plan:
    """How a connection learns: by its own plasticity, by the gradient of a readout, or as the rule says."""
    name, asked = connection.post, rule.eligibility
    # The readout's own gradient needs no waiting: its eligibility is filtered by its own leak already.
    plasticity = ThreeFactor() if by_gradient else rule.regulated
    if connection.plasticity is not None:
        plasticity = cast(Plasticity, connection.plasticity)
        legal = plasticity.eligibilities or ("factorised",)
        asked = asked if asked in legal else cast(EligibilityName, legal[0])
    elif by_gradient:
        asked = "exact"
    _check_coupled(network, name, plasticity)
    blocks = takes_blocks(plasticity) and name not in network.adaptive
    return Plan(connection, plasticity, _eligibility(network, name, asked), blocks)


def check(network: Network, rule: Composition) -> None:
    """Raise ValueError, naming the connection, unless the rule can follow every plastic synapse of the network."""
    for each in plans(network, rule).values():
        for plan in each:
            site = _site(network, plan.connection)
            try:
                _check_listed(plan, rule)
                if plan.connection.plasticity is not None:
                    _check_own(plan.plasticity, rule)
                if network.transmissions and plan.plasticity.eligibilities:
                    _check_response(network, plan.connection)
                for part in (
                    (plan.eligibility, plan.plasticity) if plan.plasticity.eligibilities else (plan.plasticity,)
                ):
                    if isinstance(part, Selective):
                        part.check(site)
            except ValueError as problem:
                where = "" if str(problem).startswith("connection '") else f"connection '{plan.connection.name}': "
                raise ValueError(f"{where}{problem}") from None


def check_waiting(network: Network, rule: Composition, projected: Callable[[str], bool]) -> None:
    """Raise ValueError, naming the connection, where what waits is one eligibility for many pairs of values, and the
    third factor is another for each unit.

    Args:
        network: that learns.
        rule: by which.
        projected: whether the neuromodulator reaches the units of a population by a projection.
    """
    for name, each in plans(network, rule).items():
        for plan in each:
            if adds_up(plan.plasticity) and not _site(network, plan.connection).joins_pairs and projected(name):
                raise ValueError(
                    f"connection '{plan.connection.name}': what waits at the synapses of a map or of vectors takes one "
                    f"third factor for all units, but {type(rule.neuromodulator).__name__} gives each its own; take "
                    f"neuromodulator = 'reward', or a plasticity that does not wait, such as 'three_factor'"
                )


def _site(network: Network, connection: Connection) -> Site:
    """Where the synapses of a connection sit."""
    population = network.populations[connection.post]
    assert population.neuron is not None
    place, synapses, sides = connection.compartment, network.synapses(connection), sides_of(connection)
    return Site(synapses, population.size, population.neuron, place, _kappa(network), network.dt, sides)


def sides_of(connection: Connection) -> Sides:
    """How values of units stand beside the weights of a connection."""
    return connection.geometry.sides if isinstance(connection.geometry, Sparse | Delayed) else MATRIX


def _check_listed(plan: Plan, rule: Composition) -> None:
    """Raise ValueError, naming it, of a connection that is stored sparsely, or with delays, and cannot learn so."""
    geometry = plan.connection.geometry
    if not isinstance(geometry, Sparse | Delayed):
        return
    kind, why = type(plan.plasticity).__name__, None
    if not takes_lists(plan.plasticity):
        why = f"{kind} does more with the weights than number by number"
    elif rule.upkeep and isinstance(geometry, Sparse):
        why = f"{type(rule.upkeep[0]).__name__} looks at rows of a matrix of weights"
    if why is not None:
        raise ValueError(needs_dense(plan.connection.name, geometry, why))


def _check_response(network: Network, connection: Connection) -> None:
    """Raise ValueError unless what a synapse did is known from what arrived at it and the gain of its post unit."""
    opened = next(iter(network.conductances.get(connection.post, ())), None)
    if opened is not None:
        which = "it is" if opened == connection.name else f"'{opened}' is"
        raise ValueError(
            f"{which} a conductance, which changes the leak of the membrane, so that no gain and trace say what a "
            f"synapse did; take a plasticity of spike times, such as plasticity = 'spike_timing', set plastic = "
            f"false, or make it a current, such as synapse = 'exponential'; rule 'bptt' differentiates through it"
        )
    tau_mem = leak_time(network.populations[connection.post])
    if connection.name in network.transmissions and isinstance(tau_mem, Tensor):
        raise ValueError(
            f"its synapse '{type(connection.synapse).__name__}' is felt by membranes of different tau_mem, so that no "
            f"response before the weights says what a synapse did; give population '{connection.post}' one tau_mem"
        )


def _check_own(plasticity: Plasticity, rule: Composition) -> None:
    """Raise ValueError of a plasticity that a connection cannot have to itself."""
    name = next((name for name, make in PLASTICITIES.items() if make is type(plasticity)), type(plasticity).__name__)
    if isinstance(plasticity, Tracking):
        raise ValueError(f"plasticity '{name}' moves weights by a statistic and is that of a whole rule; name it there")
    if plasticity.modulated and rule.neuromodulator is None:
        raise ValueError(
            f"plasticity '{name}' changes nothing without a third factor; give the rule a neuromodulator, or take one "
            f"that needs none, such as 'spike_timing'"
        )


def _check_coupled(network: Network, name: str, plasticity: object) -> None:
    """Raise ValueError if a plasticity wants the gain of every unit by itself and there is none."""
    neuron = network.populations[name].neuron
    if isinstance(neuron, Coupled) and not isinstance(plasticity, ThreeFactor):
        raise ValueError(
            f"population '{name}': the units of a {type(neuron).__name__} share {neuron.coupled}, so that none has an "
            f"eligibility of its own; use rule 'sbd', 'ebd', 'sbp' or 'dfa' without rate_cost, or 'bp'"
        )


def _kappa(network: Network) -> float | None:
    """Decay of the readout per step; 0 for one that forgets at once, None where there is not one for all, or where
    synapses onto it remember as well."""
    if any(connection.name in network.transmissions for connection in network.incoming[network.readout]):
        return None
    neuron = network.populations[network.readout].neuron
    assert neuron is not None
    filters = neuron.filters(network.dt)
    return (0.0, *filters)[-1] if filters is not None and len(filters) < 2 else None


def _eligibility(network: Network, name: str, asked: EligibilityName) -> Any:
    """What was asked for; where the factors are exact already, they are enough."""
    neuron = network.populations[name].neuron
    assert neuron is not None
    return ELIGIBILITIES["factorised" if neuron.factorises else asked]()

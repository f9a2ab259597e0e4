"""What a network consists of, in numbers: populations, shapes, parameters, multiplications."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from neurosbd.axes import Axes
from neurosbd.network.populations import Connection, Population
from neurosbd.text import html_table, sides, text_table

_MOST_NAMED = 6  # populations in one line


@dataclass(frozen=True)
class PopulationSummary:
    """A population: its axes, the kind of its neuron, '' for the input, and its role, '' for a hidden one."""

    name: str
    axes: Axes
    neuron: str
    role: str = ""

    @property
    def size(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.axes.size


@dataclass(frozen=True)
class ConnectionSummary:
    """A connection.

    shape: of the weight.
    parameters: weights and biases, those that a mask holds at zero included.
    learned: whether a rule changes them.
    multiplications: of a weight with what arrives at it, per example and step.
    """

    name: str
    geometry: str
    shape: tuple[int, ...]
    parameters: int
    learned: bool
    multiplications: int


@dataclass(frozen=True)
class Summary:
    """A network in numbers; printed, two tables."""

    populations: tuple[PopulationSummary, ...]
    connections: tuple[ConnectionSummary, ...]

    @property
    def parameters(self) -> int:
        """Weights and biases of all connections."""
        return sum(connection.parameters for connection in self.connections)

    @property
    def learned(self) -> int:
        """Those that a rule changes."""
        return sum(connection.parameters for connection in self.connections if connection.learned)

    @property
    def multiplications(self) -> int:
        """Per example and step, of all connections; neurons and pooling come on top."""
        return sum(connection.multiplications for connection in self.connections)

    @property
    def line(self) -> str:
        """Populations in their order, and how many weights."""
        shown = [f"{p.name} {sides(p.size)} {p.neuron}".strip() for p in self.populations]
        if len(shown) > _MOST_NAMED:
            shown[_MOST_NAMED - 2 : -1] = [f"... {len(shown) - _MOST_NAMED + 1} more ..."]
        fixed = "" if self.learned == self.parameters else f", {self.learned:,} of them learned"
        return f"{', '.join(shown)}; {len(self.connections)} connections, {self.parameters:,} weights{fixed}"

    def __repr__(self) -> str:
        total = f"{self.parameters:,} parameters, {self.learned:,} learned; {self.multiplications:,} multiplications"
        tables = (text_table([head, *rows]) for head, rows in (self._populations(), self._connections()))
        return "\n\n".join([*tables, f"{total} per example and step"])

    def _repr_html_(self) -> str:
        (head, rows), (other_head, other_rows) = self._populations(), self._connections()
        return html_table("populations", rows, head) + html_table("connections", other_rows, other_head)

    def _populations(self) -> tuple[Sequence[object], list[Sequence[object]]]:
        rows = [
            (p.name, sides(p.size), ", ".join(p.axes.names), f"{p.axes.neurons:,}", p.neuron or "-", p.role or "-")
            for p in self.populations
        ]
        return ("population", "size", "axes", "units", "neuron", "role"), [*rows]

    def _connections(self) -> tuple[Sequence[object], list[Sequence[object]]]:
        rows = [
            (c.name, c.geometry, sides(c.shape), f"{c.parameters:,}", "yes" if c.learned else "no",
             f"{c.multiplications:,}")
            for c in self.connections
        ]  # fmt: skip
        return ("connection", "geometry", "weight", "parameters", "learned", "multiplications"), [*rows]


def summarise(
    populations: Mapping[str, Population],
    connections: Mapping[str, Connection],
    parameters: Mapping[str, Sequence[Tensor]],
    roles: Mapping[str, str],
) -> Summary:
    """The numbers of a network.

    Args:
        populations, connections: by name.
        parameters: of each connection: its weight, and its bias if it has one.
        roles: of the input, the readout and the heads.
    """
    rows = []
    for name, connection in connections.items():
        weight, geometry = parameters[name][0], connection.geometry
        rows.append(
            ConnectionSummary(
                name, type(geometry).__name__, tuple(weight.shape), sum(p.numel() for p in parameters[name]),
                connection.plastic, geometry.multiplications(tuple(weight.shape), populations[connection.pre].size),
            )
        )  # fmt: skip
    units = [
        PopulationSummary(p.name, p.named_axes, type(p.neuron).__name__ if p.neuron else "", roles.get(p.name, ""))
        for p in populations.values()
    ]
    return Summary(tuple(units), tuple(rows))

"""The nodes and edges of a NIR graph, with graphs inside it opened."""

from collections.abc import Iterable
from dataclasses import dataclass

from neurosbd.errors import UsageError
from neurosbd.interchange.nir_neurons import NEURON_NODES
from neurosbd.interchange.surrogates import Foreign

WEIGHTS = ("Affine", "Linear", "Conv2d")
POOLS = ("SumPool2d", "AvgPool2d")
PASSES = (*POOLS, "Flatten", "Delay")  # what lies on the way to weights
_SPELT = ("I", "Threshold", "Scale")  # of a neuron that is spelt out, see nir_resets.py
_LEGAL = ("Input", "Output", *WEIGHTS, *PASSES, *NEURON_NODES, *_SPELT)
_MOST_EDGES = 100_000
_MOST_DOORS = 64  # Inputs and Outputs of a graph inside another
Edge = tuple[str, str]


def kind_of(node: object) -> str:
    """'LIF' and the like."""
    return type(node).__name__


@dataclass(frozen=True)
class Flat:
    """A graph without graphs inside."""

    nodes: dict[str, Foreign]
    before: dict[str, list[str]]  # node -> whom it hears
    after: dict[str, list[str]]  # node -> who hears it

    def of(self, *kinds: str) -> list[str]:
        """Nodes of these kinds, in their order."""
        return [name for name, node in self.nodes.items() if kind_of(node) in kinds]


def flattened(graph: object) -> Flat:
    """All nodes on one level; edges go through the doors of inner graphs.

    Raises:
        UsageError: if a node is none that can be read, an edge leads nowhere, or there is not one Input and one Output.
    """
    nodes, edges = _opened(graph, "")
    unknown = [name for name, node in nodes.items() if kind_of(node) not in _LEGAL]
    if unknown:
        raise UsageError(
            f"node '{unknown[0]}': {kind_of(nodes[unknown[0]])} cannot be read; what can: {', '.join(_LEGAL)}"
        )
    before, after = _neighbours(nodes, edges)
    flat = Flat(nodes, before, after)
    for kind in ("Input", "Output"):
        found = flat.of(kind)
        if len(found) != 1:
            ends = [n for n, others in (before if kind == "Input" else after).items() if not others and not found]
            hint = f"; nothing leads {'to' if kind == 'Input' else 'from'} {ends[:5]}: join it to a nir.{kind}"
            raise UsageError(
                f"a network has one {kind}, this graph has {len(found)}: {found[:5]}{hint if ends else ''}"
            )
    for name in nodes:
        if not before[name] and kind_of(nodes[name]) != "Input":
            raise UsageError(f"node '{name}' ({kind_of(nodes[name])}) hears nothing; join it to the Input or remove it")
    return flat


def _neighbours(nodes: dict[str, Foreign], edges: Iterable[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Whom every node hears, and who hears it."""
    before: dict[str, list[str]] = {name: [] for name in nodes}
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in dict.fromkeys(edges):
        for end in (source, target):
            if end not in nodes:
                raise UsageError(
                    f"edge {(source, target)} leads to '{end}', which is no node; there are {list(nodes)[:20]}"
                )
        before[target].append(source)
        after[source].append(target)
    return before, after


def _opened(graph: Foreign, prefix: str) -> tuple[dict[str, Foreign], list[Edge]]:
    """Nodes and edges with the names of inner graphs in front."""
    nodes: dict[str, Foreign] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for name, node in graph.nodes.items():
        if kind_of(node) != "NIRGraph":
            nodes[f"{prefix}{name}"] = node
            continue
        inner, joined = _opened(node, f"{prefix}{name}.")
        doors = {kind: [n for n, d in inner.items() if kind_of(d) == kind] for kind in ("Input", "Output")}
        if max(map(len, doors.values())) > _MOST_DOORS:
            raise UsageError(f"graph '{prefix}{name}': has more than {_MOST_DOORS} Inputs or Outputs; refused")
        edges = [
            (source, target)
            for a, b in edges
            for source in (doors["Output"] if a == f"{prefix}{name}" else [a])
            for target in (doors["Input"] if b == f"{prefix}{name}" else [b])
        ]
        nodes |= inner
        edges = _without([*edges, *joined], [*doors["Input"], *doors["Output"]])
        for door in (*doors["Input"], *doors["Output"]):
            del nodes[door]
    return nodes, edges


def _without(edges: list[Edge], doors: list[str]) -> list[Edge]:
    """The edges that are left when whoever leads to a door leads to all that it leads to."""
    for door in doors:
        incoming, outgoing = [a for a, b in edges if b == door], [b for a, b in edges if a == door]
        if len(edges) + len(incoming) * len(outgoing) > _MOST_EDGES:
            raise UsageError(f"node '{door}': more than {_MOST_EDGES:,} edges through it; refused")
        edges = [e for e in edges if door not in e] + [(a, b) for a in incoming for b in outgoing]
    return edges

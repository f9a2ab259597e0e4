"""The nodes and edges of a NIR graph, with graphs inside it opened."""

from dataclasses import dataclass
from typing import Any

from neurosbd.errors import UsageError
from neurosbd.interchange.nir_neurons import NEURON_NODES

WEIGHTS = ("Affine", "Linear", "Conv2d")
PASSES = ("SumPool2d", "AvgPool2d", "Flatten", "Delay")  # what lies on the way to weights
_LEGAL = ("Input", "Output", *WEIGHTS, *PASSES, *NEURON_NODES)


def kind_of(node: Any) -> str:
    """'LIF' and the like."""
    return type(node).__name__


@dataclass(frozen=True)
class Flat:
    """A graph without graphs inside."""

    nodes: dict[str, Any]
    before: dict[str, list[str]]  # node -> whom it hears
    after: dict[str, list[str]]  # node -> who hears it

    def of(self, *kinds: str) -> list[str]:
        """Nodes of these kinds, in their order."""
        return [name for name, node in self.nodes.items() if kind_of(node) in kinds]


def flattened(graph: Any) -> Flat:
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
    for edge in edges:
        for end in edge:
            if end not in nodes:
                raise UsageError(f"edge {edge} leads to '{end}', which is no node; there are {list(nodes)}")
    flat = Flat(
        nodes,
        {name: [a for a, b in dict.fromkeys(edges) if b == name] for name in nodes},
        {name: [b for a, b in dict.fromkeys(edges) if a == name] for name in nodes},
    )
    for kind in ("Input", "Output"):
        if len(flat.of(kind)) != 1:
            raise UsageError(f"a network has one {kind}, this graph has {len(flat.of(kind))}: {flat.of(kind)}")
    for name in nodes:
        if not flat.before[name] and kind_of(nodes[name]) != "Input":
            raise UsageError(f"node '{name}' ({kind_of(nodes[name])}) hears nothing; join it to the Input or remove it")
    return flat


def _opened(graph: Any, prefix: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges with the names of inner graphs in front."""
    nodes: dict[str, Any] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for name, node in graph.nodes.items():
        if kind_of(node) != "NIRGraph":
            nodes[f"{prefix}{name}"] = node
            continue
        inner, joined = _opened(node, f"{prefix}{name}.")
        doors = {kind: [n for n, d in inner.items() if kind_of(d) == kind] for kind in ("Input", "Output")}
        edges = [
            (source, target)
            for a, b in edges
            for source in (doors["Output"] if a == f"{prefix}{name}" else [a])
            for target in (doors["Input"] if b == f"{prefix}{name}" else [b])
        ]
        edges += joined
        nodes |= inner
        for door in (*doors["Input"], *doors["Output"]):
            del nodes[door]
            incoming, outgoing = [a for a, b in edges if b == door], [b for a, b in edges if a == door]
            edges = [e for e in edges if door not in e] + [(a, b) for a in incoming for b in outgoing]
    return nodes, edges

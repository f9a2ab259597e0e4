"""Connections: which units reach which, the drive and its adjoint."""

from collections.abc import Callable

from neurosbd.connections.conv2d import Conv2d
from neurosbd.connections.dense import Dense
from neurosbd.connections.geometry import Geometry
from neurosbd.connections.initialisers import INITIALISERS, Initialiser
from neurosbd.connections.local2d import Local2d
from neurosbd.connections.pooling import POOLINGS, Pooling
from neurosbd.connections.vector import Vector
from neurosbd.connections.vector_conv2d import VectorConv2d
from neurosbd.connections.vector_local2d import VectorLocal2d
from neurosbd.connections.wirings import WIRINGS, Wiring
from neurosbd.schema.namespace import is_table

CONNECTIONS: dict[str, Callable[..., Geometry]] = {
    "dense": Dense,
    "conv2d": Conv2d,
    "local2d": Local2d,
    "vector": Vector,
    "vector_conv2d": VectorConv2d,
    "vector_local2d": VectorLocal2d,
}
is_table(__name__, CONNECTIONS)

__all__ = [
    "CONNECTIONS", "INITIALISERS", "POOLINGS", "WIRINGS", "Conv2d", "Dense", "Geometry", "Initialiser", "Local2d",
    "Pooling", "Vector", "VectorConv2d", "VectorLocal2d", "Wiring",
]  # fmt: skip

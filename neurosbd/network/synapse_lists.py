"""The lists of synapses of connections that are stored sparsely: buffers of a network, in its checkpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurosbd.connections.sparse import Lists, Sparse, listed
from neurosbd.errors import UsageError
from neurosbd.network.populations import Connection


class SynapseLists:
    """Which of the connections of a network are listed, and where their lists are.

    Args:
        owner: the network.
    """

    def __init__(self, owner: nn.Module) -> None:
        self._buffers, self._register = owner._buffers, owner.register_buffer

    def keep(self, connection: Connection) -> None:
        """The lists of a connection that is stored sparsely become buffers; of another one there are none."""
        if isinstance(connection.geometry, Sparse):
            for field, value in connection.geometry.lists._asdict().items():
                self._register(list_key(connection.name, field), value, persistent=field in ("post", "pre"))

    def moved(self, connection: Connection) -> Connection:
        """The connection with the buffers as they are now."""
        geometry = connection.geometry
        if not isinstance(geometry, Sparse):
            return connection
        lists = (self._buffers[list_key(connection.name, field)] for field in Lists._fields)
        return replace(connection, geometry=geometry.to(Lists(*lists)))  # type: ignore[arg-type]

    def adopt(
        self, saved: Mapping[str, Tensor], prefix: str, connections: Iterable[Connection], weights: nn.ParameterDict
    ) -> None:
        """Make room for other synapses than were drawn here: their lists, and weights of that number.

        Args:
            saved: state of a network.
            prefix: of its keys.
            connections: those there are.
            weights: of them, by name.
        Raises:
            UsageError: if lists are none of these populations; nothing has changed.
        """
        found = {}
        for connection in connections:
            pairs = [saved.get(prefix + list_key(connection.name, field)) for field in ("post", "pre")]
            if isinstance(connection.geometry, Sparse) and pairs[0] is not None and pairs[1] is not None:
                found[connection.name] = _checked(pairs[0], pairs[1], connection.geometry.shape, connection.name)
        for name, lists in found.items():
            for field, value in lists._asdict().items():
                there = self._buffers[list_key(name, field)]
                assert there is not None
                self._buffers[list_key(name, field)] = value.to(there.device)
            weight = weights[name]
            if len(weight) != len(lists.post):
                weight.data = weight.new_zeros(len(lists.post))


def list_key(name: str, field: str) -> str:
    """Name of the buffer with a list of a connection."""
    return f"lists:{name}:{field}"


def _checked(post: Tensor, pre: Tensor, shape: tuple[int, int], name: str) -> Lists:
    """Lists of such populations, in order and each pair once."""
    whole = all(each.dtype == torch.int32 and each.shape == post.shape[:1] for each in (post, pre))
    pairs = post.long() * shape[1] + pre if whole else post
    inside = whole and bool(((post >= 0) & (post < shape[0]) & (pre >= 0) & (pre < shape[1])).all())
    if not inside or not bool((pairs.diff() > 0).all()):
        raise UsageError(
            f"connection '{name}': the lists of its synapses are none of {shape[1]:,} onto {shape[0]:,} units, in "
            f"order and each pair once; the checkpoint is of another network, or was changed"
        )
    return listed(post, pre, shape)

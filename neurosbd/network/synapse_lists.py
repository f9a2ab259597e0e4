"""What a network knows of single synapses: their lists and their delays; buffers of it, in its checkpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurosbd.connections.delayed import Delayed
from neurosbd.connections.sparse import Lists, Sparse, listed
from neurosbd.errors import UsageError
from neurosbd.network.delays import MOST
from neurosbd.network.populations import Connection


class SynapseLists:
    """Which of the connections of a network are listed, or have delays of their own, and where these are.

    Args:
        owner: the network.
    """

    def __init__(self, owner: nn.Module) -> None:
        self._buffers, self._register = owner._buffers, owner.register_buffer

    def keep(self, connection: Connection) -> None:
        """Lists of synapses and delays of their own become buffers; of a connection without them there are none."""
        geometry = connection.geometry
        if isinstance(geometry, Delayed):
            self._register(delay_key(connection.name), geometry.delay)
        if not isinstance(geometry, Sparse):
            return
        for field, value in geometry.lists._asdict().items():
            self._register(list_key(connection.name, field), value, persistent=field in ("post", "pre"))
        if geometry.lags:
            self._register(list_key(connection.name, "lags"), torch.tensor(geometry.lags, dtype=torch.int32))

    def moved(self, connection: Connection) -> Connection:
        """The connection with the buffers as they are now."""
        geometry = connection.geometry
        if isinstance(geometry, Delayed):
            return replace(connection, geometry=geometry.to(self._buffers[delay_key(connection.name)]))  # type: ignore[arg-type]
        if not isinstance(geometry, Sparse):
            return connection
        lists = (self._buffers[list_key(connection.name, field)] for field in Lists._fields)
        lags = self._buffers.get(list_key(connection.name, "lags"))
        return replace(connection, geometry=geometry.to(Lists(*lists), () if lags is None else tuple(lags.tolist())))  # type: ignore[arg-type]

    def adopt(
        self, saved: Mapping[str, Tensor], prefix: str, connections: Iterable[Connection], weights: nn.ParameterDict
    ) -> None:
        """Make room for other synapses than were drawn here: their lists, their delays, and weights of that number.

        Args:
            saved: state of a network.
            prefix: of its keys.
            connections: those there are.
            weights: of them, by name.
        Raises:
            UsageError: if lists or delays are none of these populations; nothing has changed.
        """
        found: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for connection in connections:
            name, geometry = connection.name, connection.geometry
            if isinstance(geometry, Delayed):
                delay = saved.get(prefix + delay_key(name))
                if delay is not None and delay.shape == geometry.delay.shape:
                    found[delay_key(name)] = _checked_delays(delay, name).clone()
            if isinstance(geometry, Sparse):
                keys = {field: list_key(name, field) for field in (*Lists._fields, "lags")}
                lists = self._other_lists({field: saved.get(prefix + key) for field, key in keys.items()}, connection)
                found |= {keys[field]: value for field, value in lists.items()}
                counts |= {name: len(lists["post"])} if lists else {}
        for key, value in found.items():
            there = self._buffers[key]
            assert there is not None
            self._buffers[key] = value.to(there.device)
        for name, count in counts.items():
            if len(weights[name]) != count:
                weights[name].data = weights[name].new_zeros(count)

    def _other_lists(self, saved: Mapping[str, Tensor | None], connection: Connection) -> dict[str, Tensor]:
        """The lists of a connection, and the delays they count by, as they were saved; {}: none were."""
        name, geometry = connection.name, connection.geometry
        post, pre, lags = (saved[field] for field in ("post", "pre", "lags"))
        assert isinstance(geometry, Sparse)
        if post is None or pre is None:
            return {}
        if not geometry.lags or lags is None:
            return _checked(post, pre, geometry.shape, name)._asdict()
        lags = torch.unique(_checked_delays(lags, name))  # in order, as a list counts by them
        shape = geometry.to(geometry.lists, tuple(lags.tolist())).shape
        return {**_checked(post, pre, shape, name)._asdict(), "lags": lags}


def delay_key(name: str) -> str:
    """Name of the buffer with the delays of the weights of a connection."""
    return f"delays:{name}"


def _checked_delays(delays: Tensor, name: str) -> Tensor:
    """Delays in steps, as they can be."""
    whole = delays.dtype == torch.int32 and delays.numel() > 0
    if not whole or not bool(((delays >= 1) & (delays <= MOST)).all()):
        raise UsageError(
            f"connection '{name}': its delays are no whole steps from 1 to {MOST:,}; the checkpoint is of another "
            f"network, or was changed"
        )
    return delays


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

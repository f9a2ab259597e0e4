"""Looking into an HDF5 file of unknown origin without being led elsewhere. Layer 0."""

from typing import Any

import h5py

from neurosbd.errors import UsageError

_HARD_LINK = 0  # H5L_TYPE_HARD of the HDF5 library


def member(group: Any, name: str, where: str, missing: str) -> Any:
    """What a group holds itself. A link is looked at before it is followed: it may lead to another file.

    Args:
        group: an open group; anything else holds nothing.
        name: of the member, without '/'.
        where: file and path, for messages.
        missing: what to say if it is not there.
    Raises:
        UsageError: if there is no such member, or it is a link to another place.
    """
    links = group.id.links if isinstance(group, h5py.Group) else None
    if links is None or not links.exists(name.encode()):
        raise UsageError(f"{where} is missing; {missing}")
    if links.get_info(name.encode()).type != _HARD_LINK:
        raise UsageError(f"{where} is a link to another place; refused")
    return group[name]


def dataset(file: Any, name: str, path: object, missing: str) -> Any:
    """A dataset that lies in this very file, before a byte of it is read.

    Raises:
        UsageError: if it is missing, is no dataset, or keeps its values in other files.
    """
    node = file
    for part in name.strip("/").split("/"):
        node = member(node, part, f"{path}: '{name}'", missing)
    if not isinstance(node, h5py.Dataset):
        raise UsageError(f"{path}: '{name}' is no dataset; {missing}")
    if node.is_virtual or node.external:
        raise UsageError(f"{path}: '{name}' keeps its values in other files; refused")
    return node

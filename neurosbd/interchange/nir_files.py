"""Reading a NIR file that someone else made: looked at before it is read. The only place that imports nir."""

from pathlib import Path
from types import ModuleType
from typing import Any

from neurosbd.errors import UsageError

_LARGEST = 2**32  # bytes of all arrays together, unpacked
_MOST = 100_000  # groups and datasets
_DEEPEST = 32  # groups inside each other; a file whose groups contain themselves ends here
_HARD_LINK = 0  # H5L_TYPE_HARD; soft and external links lead elsewhere


def nir_package() -> ModuleType:
    """The package nir.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import nir
    except ImportError:
        raise UsageError("NIR needs the package 'nir': pip install 'neurosbd[interchange]'") from None
    return nir


def read_graph(path: str | Path) -> Any:
    """The graph of a .nir file.

    Raises:
        UsageError: naming the file, if it cannot be read, leads to other files, or is absurdly large.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file; needed is a NIR graph written by nir.write")
    nir = nir_package()
    _check(path)
    try:
        return nir.read(path)
    except Exception as problem:  # a bad graph surfaces in nir as KeyError, AssertionError, TypeError and others
        reason = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
        raise UsageError(f"{path}: not a graph that nir can read ({reason}); write it again with nir.write") from None


def _check(path: Path) -> None:
    """Refuse links, values kept in other files, odd types and bombs, before a value is read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            room = [_LARGEST, _MOST]
            _walk(file, path, room, 0)
            if "node" not in file:
                raise UsageError(f"{path}: an HDF5 file without a graph; needed is one written by nir.write")
    except OSError as problem:
        raise UsageError(f"{path}: truncated or no HDF5 file ({problem}); write it again with nir.write") from None


def _walk(group: Any, path: Path, room: list[int], depth: int) -> None:
    import h5py

    if depth > _DEEPEST:
        raise UsageError(f"{path}: groups nested deeper than {_DEEPEST}; refused")
    for name in group:
        where = f"{path}: '{group.name.rstrip('/')}/{name}'"
        if group.id.links.get_info(name.encode()).type != _HARD_LINK:
            raise UsageError(f"{where} is a link to another place; refused")
        room[1] -= 1
        if room[1] < 0:
            raise UsageError(f"{path}: more than {_MOST:,} entries; refused")
        node = group[name]
        if isinstance(node, h5py.Group):
            _walk(node, path, room, depth + 1)
        elif not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
            raise UsageError(f"{where} keeps its values in other files; refused")
        elif node.dtype.kind not in "iufbS" and h5py.check_string_dtype(node.dtype) is None:
            raise UsageError(f"{where} is of type {node.dtype}; legal are numbers and text")
        else:
            room[0] -= node.nbytes
            if room[0] < 0:
                raise UsageError(f"{path}: declares more than {_LARGEST:,} bytes of values; refused")

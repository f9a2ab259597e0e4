"""Reading a NIR file that someone else made: looked at before it is read. The only place that imports nir."""

import dataclasses
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from neurosbd.errors import UsageError
from neurosbd.files.deflate import unpacked_at_most
from neurosbd.files.writing import legal_path, regular
from neurosbd.interchange.surrogates import Foreign

_LARGEST = 2**32  # bytes of all arrays together, unpacked
_MOST = 20_000  # groups and datasets
_DEEPEST = 32  # groups inside each other; a file whose groups contain themselves ends here
_LONGEST = 2**20  # bytes of all texts of one array together
_HARD_LINK = 0  # H5L_TYPE_HARD; soft and external links lead elsewhere
_FILTERS = (None, "gzip", "lzf", "szip")  # what nir.write offers
_FAULTS = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)
_FIX = "write it again with nir.write"
_SHAPES = {"Input": "input_type", "Output": "output_type"}  # fields that a file calls 'shape'


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


def read_graph(path: str | Path) -> Foreign:
    """The graph of a .nir file. Sizes of neighbours are not compared here: `from_nir` does, and names what differs.

    Raises:
        UsageError: naming the file, if it cannot be read, leads to other files, or is absurdly large; naming the node
            and the field, if one is missing or of the wrong kind.
    """
    path = legal_path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file; needed is a NIR graph written by nir.write")
    nir = nir_package()
    found = _contents(regular(path))
    try:
        return _graph(nir, found, "")
    except UsageError as problem:
        raise UsageError(f"{path}: {problem}") from None


# HDF5 ---------------------------------------------------------------------------------------------


def _contents(path: Path) -> dict[str, Foreign]:
    """All values below 'node', groups as dictionaries."""
    import h5py

    from neurosbd.files.hdf5 import check_heaps

    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            check_heaps(mapped, path, _FIX)
            with h5py.File(path, "r") as file:
                _walk(file, _Looked(path, mapped), 0)
                if not isinstance(file.get("node"), h5py.Group):
                    raise UsageError(f"{path}: an HDF5 file without a graph; needed is one written by nir.write")
                return _values(file["node"])
    except _FAULTS as problem:
        if isinstance(problem, UsageError):
            raise
        reason = str(problem).strip("\"'") or type(problem).__name__
        raise UsageError(f"{path}: truncated or no HDF5 file ({reason}); {_FIX}") from None


@dataclass
class _Looked:
    """How far a file has been looked at."""

    path: Path
    data: mmap.mmap
    bytes: int = _LARGEST  # that may still be found
    entries: int = _MOST


def _walk(group: Foreign, looked: _Looked, depth: int) -> None:
    """Refuse links, values kept in other files, odd types and bombs, before a value is read."""
    import h5py

    if depth > _DEEPEST:
        raise UsageError(f"{looked.path}: groups nested deeper than {_DEEPEST}; refused")
    for name in group:
        where = f"{looked.path}: '{group.name.rstrip('/')}/{name}'"
        if group.id.links.get_info(name.encode()).type != _HARD_LINK:
            raise UsageError(f"{where} is a link to another place; refused")
        looked.entries -= 1
        if looked.entries < 0:
            raise UsageError(f"{looked.path}: more than {_MOST:,} entries; refused")
        node = group[name]
        if isinstance(node, h5py.Group):
            _walk(node, looked, depth + 1)
        elif not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
            raise UsageError(f"{where} keeps its values in other files; refused")
        else:
            looked.bytes -= _size(node, looked.data, where)
            if looked.bytes < 0:
                raise UsageError(f"{looked.path}: declares more than {_LARGEST:,} bytes of values; refused")


def _size(node: Foreign, data: mmap.mmap, where: str) -> int:
    """Bytes that reading a dataset takes, without reading it."""
    import h5py

    from neurosbd.files.hdf5 import check_lengths

    if node.shape is None:
        raise UsageError(f"{where} is empty; {_FIX}")
    text = h5py.check_string_dtype(node.dtype)
    if node.dtype.kind not in "iufbS" and text is None:
        raise UsageError(f"{where} is of type {node.dtype}; legal are numbers and text")
    if node.compression not in _FILTERS or node.scaleoffset is not None:
        raise UsageError(f"{where} is stored with a filter that NIR does not use; refused")
    count = math.prod(node.shape)
    chunk = math.prod(node.chunks) if node.chunks else 0
    if text is not None and max(count, chunk) * max(text.length or 0, 16) > _LONGEST:
        raise UsageError(f"{where} claims {max(count, chunk):,} texts; refused")
    if text is not None and text.length is None:
        check_lengths(node, data, _LONGEST, where, _FIX)
    most = unpacked_at_most(node.id.get_storage_size(), deflated=node.compression is not None)
    if count * node.dtype.itemsize > most:
        raise UsageError(f"{where} claims {list(node.shape)} {node.dtype}, more than the file can hold; refused")
    return max(count, chunk) * node.dtype.itemsize


def _values(group: Foreign) -> dict[str, Foreign]:
    import h5py

    found: dict[str, Foreign] = {}
    for name, member in group.items():
        value = _values(member) if isinstance(member, h5py.Group) else member[()]
        found[name] = _text(value) if isinstance(value, bytes) else value
    return found


def _text(value: object) -> str:
    text = value.decode("utf8") if isinstance(value, bytes) else str(value)
    if len(text) > _LONGEST:
        raise ValueError(f"a text of {len(text):,} letters")
    return text


# Nodes --------------------------------------------------------------------------------------------


def _graph(nir: ModuleType, found: dict[str, Foreign], prefix: str) -> Foreign:
    """A graph of the values of a file, with all graphs inside it."""
    where = f"graph '{prefix.rstrip('.')}'" if prefix else "the graph"
    nodes, edges = found.get("nodes"), found.get("edges")
    if found.get("type") != "NIRGraph" or not isinstance(nodes, dict) or edges is None:
        raise UsageError(f"{where} is of type {found.get('type')!r} with {sorted(found)}; needed: nodes, edges")
    if not isinstance(edges, np.ndarray) or (edges.size and edges.shape[1:] != (2,)):
        raise UsageError(f"{where}: edges of shape {list(np.shape(edges))}; legal are pairs of names, [edges, 2]")
    made = {name: _node(nir, fields, f"{prefix}{name}") for name, fields in nodes.items()}
    try:
        pairs = [(_text(a), _text(b)) for a, b in edges] if edges.size else []
    except UnicodeDecodeError:
        raise UsageError(f"{where}: an edge has a name that is not UTF-8; {_FIX}") from None
    return nir.NIRGraph(made, pairs, metadata=_notes(found), type_check=False)


def _node(nir: ModuleType, fields: Foreign, name: str) -> Foreign:
    """A node of its fields."""
    kind = fields.get("type") if isinstance(fields, dict) else None
    make = getattr(nir, kind, None) if isinstance(kind, str) else None
    if not isinstance(kind, str) or not (isinstance(make, type) and issubclass(make, nir.NIRNode)):
        raise UsageError(f"node '{name}' is of type {kind!r}, which nir does not have")
    if kind == "NIRGraph":
        return _graph(nir, fields, f"{name}.")
    where, known = f"node '{name}' ({kind})", {f.name: f for f in dataclasses.fields(make) if f.init}
    values = {key: value for key, value in fields.items() if key not in ("type", "metadata")}
    shape = _SHAPES.get(kind)
    if shape is not None and "shape" in values:
        values[shape] = {shape.removesuffix("_type"): values.pop("shape")}
    if kind == "Flatten":
        values["input_type"] = {"input": values.get("input_type")}
    for key, field in known.items():
        if key != "metadata" and key not in values and field.default is dataclasses.MISSING:
            raise UsageError(f"{where}: its {'shape' if key == shape else key} is missing")
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where}: has '{key}', which is no field of it; legal are {', '.join(known)}")
        _check_field(where, key, value)
    try:
        return make(**values, metadata=_notes(fields))
    except (AssertionError, *_FAULTS) as problem:
        shapes = ", ".join(f"{key} {list(v.shape)}" for key, v in values.items() if isinstance(v, np.ndarray))
        raise UsageError(f"{where}: {problem} ({shapes})") from None


def _check_field(where: str, key: str, value: object) -> None:
    if (isinstance(value, str) and key == "padding") or key in _SHAPES.values():
        return
    if np.asarray(value).dtype.kind not in "iufb":
        raise UsageError(f"{where}: its {key} is {'a group' if isinstance(value, dict) else 'text'}; legal are numbers")


def _notes(fields: dict[str, Foreign]) -> dict[str, Foreign]:
    notes = fields.get("metadata")
    return notes if isinstance(notes, dict) else {}

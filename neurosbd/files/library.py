"""Finds the content that ships beside the engine: models/, data/ and analysis/.

An item is asked for by name or by a path of the user's own. The folders lie in the package in a
wheel (`neurosbd/_shipped/models`), beside it in a checkout or an editable install.
"""

from pathlib import Path

from neurosbd.errors import UsageError, nearest
from neurosbd.files.writing import legal_path

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = {"models": ".toml", "data": ".toml", "analysis": ".py"}
_LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes are put behind it
_SINGULAR = {"models": "model", "data": "dataset", "analysis": "analysis"}


def folder(kind: str) -> Path:
    """Where the items of a kind ('models', 'data', 'analysis') are."""
    shipped = _PACKAGE / "_shipped" / kind
    return shipped if shipped.is_dir() else _PACKAGE.parent / kind


def names(kind: str) -> list[str]:
    """Names of the items of a kind, sorted."""
    found = folder(kind).glob(f"*{_SUFFIX[kind]}")
    return sorted(path.stem for path in found if not path.stem.startswith("_"))


def find(kind: str, name: str | Path) -> Path:
    """The file of an item: TOML, of an analysis Python.

    Args:
        kind: 'models', 'data' or 'analysis'.
        name: a shipped name, or the path of a file with the suffix of the kind.
    Raises:
        UsageError: if there is no such item; names the nearest one.
    """
    path, suffix = legal_path(name), _SUFFIX[kind]
    if path.suffix == suffix or path.parent != Path("."):
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file; give a {suffix} file or one of: {', '.join(names(kind))}")
        return path
    if str(name) not in names(kind):
        raise UsageError(f"there is no {_SINGULAR[kind]} '{name}'{nearest(str(name), names(kind))}")
    return folder(kind) / f"{name}{suffix}"


def path_component(name: str) -> str:
    """A name that becomes one file or folder below a folder that the user named, and can lead nowhere else.

    Names of models and data sets, of files in a definition and of downloads come from strangers.

    >>> path_component("digits-mlp")
    'digits-mlp'

    Raises:
        UsageError: if it is empty, '.', '..', too long, or holds '/', '\\', ':' or what cannot be shown.
    """
    if _leads_elsewhere(name):
        raise UsageError(
            f"{name!r} cannot be the name of a file or folder; give a plain name such as 'my-set', without "
            f"'/', '\\', ':' and control characters: nothing is read or written outside the folder it belongs to"
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise UsageError(f"{name[:40]!r}... is {len(name.encode())} bytes long; legal are {_LONGEST_NAME} at most")
    return name


def _leads_elsewhere(name: str) -> bool:
    return name in ("", ".", "..") or not name.isprintable() or any(c in name for c in "/\\:")


def relative_path(path: str) -> str:
    """A path below a folder, 'val/images': every part of it a `path_component`.

    Raises:
        UsageError: if it is absolute or could lead out of the folder.
    """
    parts = path.split("/")
    if len(parts) > 1 and any(_leads_elsewhere(part) for part in parts):
        raise UsageError(
            f"{path!r} could lead out of the folder it belongs to; give a path below that folder, such as 'val/images'"
        )
    for part in parts:
        path_component(part)
    return path

"""Finds the content that ships beside the engine: models/ and data/. Layer 0.

An item is asked for by name or by a path of the user's own. The folders lie in the package in a
wheel (`neurosbd/_shipped/models`), beside it in a checkout or an editable install.
"""

import tomllib
from pathlib import Path
from typing import Any

from neurosbd.errors import UsageError, nearest

_PACKAGE = Path(__file__).resolve().parent


def folder(kind: str) -> Path:
    """Where the items of a kind ('models', 'data') are."""
    shipped = _PACKAGE / "_shipped" / kind
    return shipped if shipped.is_dir() else _PACKAGE.parent / kind


def names(kind: str) -> list[str]:
    """Names of the items of a kind, sorted."""
    return sorted(path.stem for path in folder(kind).glob("*.toml"))


def find(kind: str, name: str | Path) -> Path:
    """The TOML file of an item.

    Args:
        kind: 'models' or 'data'.
        name: a shipped name, or the path of a .toml file.
    Raises:
        UsageError: if there is no such item; names the nearest one.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.parent != Path("."):
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file; give a .toml file or one of: {', '.join(names(kind))}")
        return path
    if str(name) not in names(kind):
        singular = {"models": "model", "data": "dataset"}[kind]
        raise UsageError(f"there is no {singular} '{name}'{nearest(str(name), names(kind))}")
    return folder(kind) / f"{name}.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: if it cannot be read or parsed, with the line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: not valid TOML: {problem}") from None

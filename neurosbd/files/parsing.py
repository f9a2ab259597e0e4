"""TOML and JSON of unknown origin: looked at before it is read, one clear error for whatever is wrong."""

import json
import tomllib
from pathlib import Path
from typing import Any

from neurosbd.errors import UsageError
from neurosbd.files.writing import regular

_LARGEST = {"TOML": 1 << 21, "JSON": 1 << 28}  # bytes; model files have some kB, metrics some hundred bytes per epoch
_DEEPEST = 50  # tables and lists in each other
_WORD = 1 << 63  # integers have 64 bits, with their sign
_MOST_SAID = 60  # characters of a value
Json = Any  # what TOML and JSON hold: tables, lists, text, numbers, truth values, None; whoever reads it checks it
JsonTable = dict[str, Json]


def read_toml(path: Path) -> JsonTable:
    """Parse a TOML file.

    Raises:
        UsageError: if it is no file, too large, not UTF-8 or not TOML (with the line and column), nested too deeply, or
            has an integer of more than 64 bits.
    """
    return parse_toml(_text(path, "TOML"), str(path))


def parse_toml(text: str, source: str) -> JsonTable:
    """Parse TOML.

    Raises:
        UsageError: as `read_toml`.
    """
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise _refused(source, "TOML", problem) from None
    check_plain(value, source)
    return value


def read_json(path: Path) -> Json:
    """Parse a JSON file. NaN and infinity, which JSON does not have, become None, as this product writes them.

    Raises:
        UsageError: if it is no file, too large, not UTF-8 or not JSON, nested too deeply, or has an integer of more
            than 64 bits or half a character.
    """
    return parse_json(_text(path, "JSON"), str(path))


def read_json_lines(path: Path) -> list[Json]:
    """Parse a file with a JSON value per line; see `read_json`.

    Raises:
        UsageError: naming the line.
    """
    lines = enumerate(_text(path, "JSON").split("\n"), 1)
    return [parse_json(line, f"{path}: line {number}") for number, line in lines if line.strip()]


def parse_json(text: str | bytes, source: str) -> Json:
    """Parse JSON.

    Raises:
        UsageError: as `read_json`.
    """
    try:
        value = json.loads(text, parse_constant=lambda _: None, object_pairs_hook=_table)
    except (ValueError, RecursionError) as problem:
        raise _refused(source, "JSON", problem) from None
    check_plain(value, source)
    return value


def check_plain(value: object, source: str, at: str = "", depth: int = 0) -> None:
    """Refuse parsed values that nothing here has a use for and that other code may trip over.

    Raises:
        UsageError: naming the key.
    """
    if depth > _DEEPEST:
        raise UsageError(f"{source}: {brief(at)}: more than {_DEEPEST} tables and lists in each other; refused")
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(key, source, at)
            check_plain(item, source, f"{at}.{key}" if at else key, depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_plain(item, source, f"{at}.{i}" if at else str(i), depth + 1)
    elif isinstance(value, int) and not -_WORD <= value < _WORD:
        raise UsageError(
            f"{source}: {brief(at)}: is an integer of {value.bit_length()} bits; legal are 64 with the sign"
        )
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise UsageError(f"{source}: {brief(at)}: has half a character (a lone surrogate); it is not text")


def brief(text: str) -> str:
    """Text in a message: the beginning of what is long."""
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}... ({len(text):,} characters)"


def _table(pairs: list[tuple[str, Json]]) -> JsonTable:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in names if names.count(key) > 1)}' is there more than once")
    return table


def _text(path: Path, kind: str) -> str:
    """A text file; a mark of byte order, which some editors write, is no part of it."""
    try:
        size = regular(path).stat().st_size
        if size > _LARGEST[kind]:
            raise UsageError(f"{path}: has {size:,} bytes; legal for a {kind} file here are {_LARGEST[kind]:,} at most")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise UsageError(f"{path}: is not text in UTF-8 ({problem.reason} at byte {problem.start})") from None


def _refused(source: str, kind: str, problem: Exception) -> UsageError:
    if isinstance(problem, RecursionError):
        return UsageError(f"{source}: tables and lists are nested too deeply; legal are {_DEEPEST} in each other")
    said = "an integer of more than 64 bits" if "digits" in str(problem) else brief(str(problem))
    return UsageError(f"{source}: not valid {kind}: {said}")

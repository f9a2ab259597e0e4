"""The records of a run directory (config.json, metrics.jsonl, result.json): of the right kind, or refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

from neurosbd.errors import UsageError
from neurosbd.files.parsing import Json, JsonTable, brief, read_json, read_json_lines

_Check = Callable[[Json], bool]


def _number(value: object) -> bool:
    """NaN and infinity are null in a file."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _measures(value: object) -> bool:
    return isinstance(value, dict) and all(_number(item) or _text(item) for item in value.values())


def _complaints(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _table(value: object) -> bool:
    return value is None or isinstance(value, dict)


_CONFIG: Mapping[str, tuple[_Check, str]] = {"definition": (lambda value: isinstance(value, dict), "a table")}
_EPOCH: Mapping[str, tuple[_Check, str]] = {
    "epoch": (_count, "an integer from 1"),
    "seconds": (lambda value: _number(value) and value is not None, "a number"),
    "warnings": (_complaints, "a table of texts"),
}
_RESULT: Mapping[str, tuple[_Check, str]] = {
    "status": (lambda value: isinstance(value, str), "a text"),
    "reason": (_text, "a text or null"),
    "epochs": (_count, "an integer from 0"),
    "final": (_table, "a table or null"),
    "best": (_table, "a table or null"),
    "stop": (_table, "a table or null"),
    "seconds": (_number, "a number"),
    "warnings": (_texts, "a list of texts"),
    "measures": (_measures, "a table of numbers and texts"),
}


def read_config(path: Path) -> JsonTable:
    """config.json.

    Raises:
        UsageError: if it is not readable, or has no definition.
    """
    return check_config(read_json(path), str(path))


def check_config(config: object, source: str) -> JsonTable:
    """The same, of a trace."""
    return _checked(config, _CONFIG, ("definition",), source)


def read_metrics(path: Path) -> list[JsonTable]:
    """metrics.jsonl: a line per epoch; where the first lines were lost, the others are what there is.

    Raises:
        UsageError: naming the line, if it is no table, its epoch is not the next one, or a value is no number.
    """
    lines = read_json_lines(path)
    for number, line in enumerate(lines, 1):
        where = f"{path}: line {number}"
        _checked(line, _EPOCH, ("epoch",), where)
        if line["epoch"] != lines[0]["epoch"] + number - 1 or line["epoch"] < 1:
            raise UsageError(f"{where} is epoch {line['epoch']}; legal is a line per epoch from 1 on, in order")
        wrong = next((key for key, value in line.items() if key not in _EPOCH and not _number(value)), None)
        if wrong is not None:
            raise UsageError(f"{where}: {brief(wrong)}: must be a number, got {brief(repr(line[wrong]))}")
    return lines


def read_result(path: Path) -> JsonTable:
    """result.json; of a run that has none yet, that it is running.

    Raises:
        UsageError: if it is not readable, or a value is of the wrong kind.
    """
    return _checked(read_json(path), _RESULT, ("status",), str(path)) if path.exists() else {"status": "running"}


def _checked(record: object, legal: Mapping[str, tuple[_Check, str]], needed: tuple[str, ...], where: str) -> JsonTable:
    if not isinstance(record, dict):
        raise UsageError(f"{where}: is {type(record).__name__}, not a table; this is no run of neurosbd")
    for key, (check, kind) in legal.items():
        if key in record and not check(record[key]):
            raise UsageError(f"{where}: {key}: must be {kind}, got {brief(repr(record[key]))}")
        if key in needed and key not in record:
            raise UsageError(f"{where}: has no {key}; this is no run of neurosbd")
    return record

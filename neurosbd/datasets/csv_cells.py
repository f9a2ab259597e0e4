"""Lines and cells of a .csv file: text from a stranger, read line by line, with the line of whatever is wrong."""

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from neurosbd.errors import UsageError

_LARGEST = 1 << 32  # bytes of a file
_LONGEST = 1 << 26  # characters of a line
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_EXACT = 1 << 53  # from here on float64 does not hold every whole number
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def lines(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The cells of every line that is not empty, and the number of the line in the file, from 1.

    Args:
        path: of the file.
        delimiter: between cells; of spaces any number.
    Raises:
        UsageError: if the file is too large or no text; if a line is too long, or a quote is opened and never closed.
    """
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"{path}: is {path.stat().st_size:,} bytes; the limit of a .csv is {_LARGEST:,}; give an .npz")
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(
                _pieces(stream, path), strict=True, delimiter=delimiter, skipinitialspace=delimiter == " "
            )
            for row in reader:
                if row:
                    yield number, row
                number = reader.line_num + 1
    except csv.Error as problem:
        raise UsageError(
            f"{path}: line {number}: {problem}; is a quote opened there that is never closed, or closed twice?"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: {_undecodable(path)}") from None
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None


def _pieces(stream: TextIO, path: Path) -> Iterator[str]:
    """Lines, none of which is longer than memory allows."""
    number = 0
    while line := stream.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST:
            raise UsageError(f"{path}: line {number} is longer than {_LONGEST:,} characters; this is no table")
        if "\0" in line:
            raise UsageError(f"{path}: line {number} holds a NUL byte; is it UTF-16, or no text? Save it as UTF-8")
        yield line


def _undecodable(path: Path) -> str:
    """Which line of a file is not UTF-8."""
    with path.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "is UTF-16; save it as UTF-8"
        stream.seek(0)
        number = 0
        while line := stream.readline(_LONGEST):
            number += 1
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as problem:
                byte = line[problem.start]
                return f"line {number} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8"
    return "is not UTF-8; save it as UTF-8"


def separator(cell: str) -> str | None:
    """What separates the columns of a line that is a single cell, if it is not commas."""
    return next((word for mark, word in _SEPARATORS.items() if mark in cell), None)


def number(cell: str) -> float:
    """A finite number as a table writes it: what only Python reads, such as 1_000 or digits of other scripts, is none.

    Raises:
        ValueError: with what is wrong and the fix.
    """
    if cell.isascii() and "_" not in cell:
        try:
            value = float(cell)
        except ValueError:
            pass
        else:
            if math.isfinite(value) and (value or not _vanished(cell)):
                return value
    raise ValueError(
        f"{quoted(cell)} {_why(cell.strip())}" if cell.strip() else "the cell is empty; fill it, or leave out the line"
    )


def is_rounded(cell: str, value: float) -> bool:
    """Whether a whole number is too large for float64 to hold it exactly."""
    return abs(value) >= _EXACT and _WHOLE.fullmatch(cell) is not None and int(cell) != value


def quoted(text: str) -> str:
    """A cell or name for a message: short, its control characters written out.

    >>> quoted("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    return repr(text if len(text) <= 32 else f"{text[:29]}...")


def _vanished(cell: str) -> bool:
    """Whether the digits say something else than 0."""
    return any(digit in "123456789" for digit in cell.lower().partition("e")[0])


def _why(cell: str) -> str:
    word = cell.lower().lstrip("+-")
    if word in ("true", "false"):
        return "is no number; write 1 and 0"
    if word in ("nan", "na", "n/a", "null", "none", "inf", "infinity"):
        return "is no finite number; fill it, or leave out the line"
    if _DECIMAL_COMMA.fullmatch(cell):
        return "is no number; write a decimal point, not a comma"
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return "is no number; write words as 0 and 1, or leave out the line"
    if math.isinf(value) or (value == 0 and cell.isascii() and "_" not in cell):
        return f"is beyond what float64 holds (it would be {value:g}); choose another unit"
    return "is not written in plain digits; write it like 1234.5 or 1e-12"

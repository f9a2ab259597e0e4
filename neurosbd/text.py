"""Text that leaves the product: for a terminal, a page, a figure, a table.

Names come from strangers: of classes (folders), columns, populations, runs, files. Everything that is shown passes
through here, once, where it leaves.
"""

import codecs
import csv
import html
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

_PLAIN = {
    "±": "+-", "→": "->", "²": "^2", "·": "*", "×": "x", "–": "-", "—": "-", "…": "...", "µ": "u", "μ": "u",
}  # fmt: skip
_JOINERS = "\u200c\u200d"  # within words of some scripts and within emoji; they move nothing
_SCARCE = "neurosbd.scarce"  # how what an encoding does not have is written
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet calculates, if a cell begins with it
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def printable(text: str) -> str:
    """Text that shows what is in it and does nothing else: what controls a terminal, or the order of the letters around
    it, is written out. Line ends and what is printable stay.

    >>> printable("cat\\x1b[2J \\u202egnp.exe")
    'cat\\\\x1b[2J \\\\u202egnp.exe'
    """
    if text.isprintable():
        return text
    return "".join(_written(c) if unicodedata.category(c)[0] in "C" or c in "\u2028\u2029" else c for c in text)


def one_line(text: str) -> str:
    """A name as a label: `printable`, with its line ends and tabs written out too.

    >>> one_line("cat\\nneurosbd: all is well")
    'cat\\\\nneurosbd: all is well'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _written(character: str) -> str:
    if character in "\n\t" or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()


def say(text: object, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print text that may hold names of strangers, on a terminal of any encoding.

    Args:
        text: its control characters are written out; what the encoding of the stream does not have is replaced.
        stream: none: the standard output.
        end: written as it is.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None:  # it was closed before this process began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = printable(str(text)).encode(encoding, _SCARCE).decode(encoding)
    print(shown, file=stream, end=end, flush=True)


def _scarce(problem: UnicodeError) -> tuple[str, int]:
    """'+-' for ± and so on, else the number of the character: an ASCII or latin-1 terminal never raises."""
    assert isinstance(problem, UnicodeEncodeError)
    lost = problem.object[problem.start : problem.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), problem.end


codecs.register_error(_SCARCE, _scarce)


def csv_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV that no spreadsheet takes for a formula: text that begins like one gets a quote before it.

    Args:
        head: names of the columns.
        rows: numbers stay numbers; None is an empty cell.

    >>> csv_table(("class", "recall"), [("=1+1", -0.5)])
    "class,recall\\n'=1+1,-0.5\\n"
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (head, *rows))
    return stream.getvalue()


def sides(size: Iterable[int]) -> str:
    """(3, 32, 32) as 3x32x32."""
    return "x".join(map(str, size))


def text_table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned columns, the first to the left, the others to the right.

    >>> print(text_table([("layer", "units"), ("hidden", 128)]))
    layer   units
    hidden    128
    """
    cells = [[one_line(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    )


def html_table(caption: str, rows: Iterable[Sequence[object]], head: Sequence[object] = ()) -> str:
    """A table for a notebook; all text is escaped.

    >>> html_table("<run>", [("rule", "sbd")])
    '<table><caption>&lt;run&gt;</caption><tr><td>rule</td><td>sbd</td></tr></table>'
    """

    def row(cells: Sequence[object], kind: str) -> str:
        shown = (f"<{kind}>{html.escape(one_line(str(cell)))}</{kind}>" for cell in cells)
        return f"<tr>{''.join(shown)}</tr>"

    lines = [row(head, "th")] if head else []
    lines += [row(cells, "td") for cells in rows]
    return f"<table><caption>{html.escape(one_line(caption))}</caption>{''.join(lines)}</table>"


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else text

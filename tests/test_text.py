"""Names of strangers leave the product as text that shows what is in it and does nothing else."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import neurosbd
from neurosbd.cli.main import main
from neurosbd.report.drawing import draw
from neurosbd.report.page import render
from neurosbd.report.quantities import Quantity, tidy
from neurosbd.text import csv_table, one_line, printable, say

EVIL = "\x1b]0;owned\x07\x1b[2Jcat\u202egnp"
SHOWN = r"\x1b]0;owned\x07\x1b[2Jcat\u202egnp"


def test_what_controls_a_terminal_is_written_out() -> None:
    """Must fail if one class of such characters is let through (tried: the bidi controls, lone surrogates)."""
    assert printable(EVIL) == SHOWN
    for harmless in ("±1 → R² µ", "für 東京 עברית", "a\nb\tc", "क्\u200dष"):
        assert printable(harmless) == harmless
    assert printable("\udcff\r\x9b\u2066\u2028\ufeff") == r"\udcff\r\x9b\u2066\u2028\ufeff"
    assert one_line("cat\nneurosbd: \tfine") == r"cat\nneurosbd: \tfine"


@pytest.mark.parametrize("encoding, shown", [("ascii", "R^2 +-1 -> \\u6771"), ("latin-1", "R² ±1 -> \\u6771"),
                                             ("utf-8", "R² ±1 → 東")])  # fmt: skip
def test_no_encoding_of_a_terminal_raises(encoding: str, shown: str) -> None:
    """Must fail with the stream's own error handler (tried: UnicodeEncodeError)."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    say("R² ±1 → 東", stream)
    stream.seek(0)
    assert stream.read() == shown + "\n"


def test_cells_never_begin_a_formula() -> None:
    """Must fail if one of the first letters is forgotten, or a number becomes text (both tried)."""
    evil = ["=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
    plain = ["-0.5", "+1e-3", "", "cat", "a=b", "−1"]
    table = csv_table(["class", *evil], [[*evil, "x"], [*plain, -0.5], [-1, 2.5, None, True, 1e-9, -1e300, 0]])
    head, first, second, third = csv.reader(io.StringIO(table))
    assert all(cell.startswith("'") for cell in (*head[1:], *first[:6])) and first[0] == "'=1+1"
    assert second == [*plain, "-0.5"] and third == ["-1", "2.5", "", "True", "1e-09", "-1e+300", "0"]
    found = tidy({"own": [Quantity("recall", "1", ("class",), [0.5], (("=HYPERLINK(1)",),))]})
    assert "own,recall,1,'=HYPERLINK(1),0.5\n" in found


def test_names_in_figures_and_pages() -> None:
    """Class names with dollar signs are no formulas. Must fail without `_write_out` (tried: ValueError)."""
    figure = Figure()
    axes = figure.subplots()
    axes.set_yticks([0, 1], labels=["$x^$ a$", EVIL])
    axes.set_title("cost in $ of $_")
    drawn = draw(figure)
    assert drawn.png.startswith(b"\x89PNG") and b"\x1b" not in drawn.svg
    assert axes.get_yticklabels()[1].get_text() == SHOWN
    empty: dict[str, Any] = {"head": (), "rows": ()}
    page = render("comparison.html", overview={"head": (EVIL, "<b>"), "rows": []}, warnings=(EVIL,), remarks=[],
                  level="95 %", image="", width=1, runs=empty, rest=empty)  # fmt: skip
    assert "\x1b" not in page and "\u202e" not in page and SHOWN in page and "&lt;b&gt;" in page and "<table" in page


def test_names_of_columns_and_folders_on_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail when they are printed as they are (tried)."""
    names = f'a,"target:{EVIL}","target:dog\nneurosbd: all is well"\n'
    (tmp_path / "t.csv").write_text(names + "".join(f"{i * i % 7},{i},{i % 3}.5\n" for i in range(20)))
    assert main(["data", "check", str(tmp_path / "t.csv")]) == 0
    (tmp_path / "p" / EVIL).mkdir(parents=True)
    assert main(["data", "check", str(tmp_path / "p" / EVIL)]) == 2
    out, err = capsys.readouterr()
    assert SHOWN in out and SHOWN in err and "\x1b" not in out + err and "\nneurosbd: all" not in out


def test_an_ascii_terminal(tmp_path: Path) -> None:
    """Must fail with print (tried: UnicodeEncodeError at ±)."""
    runs = [str(tmp_path / f"run{seed}") for seed in range(2)]
    for seed, out in enumerate(runs):
        neurosbd.fit("digits-mlp", seed=seed, settings={"training.epochs": 1, "data.subset": 8}, out=out)
    command = [sys.executable, "-m", "neurosbd", "compare", *runs, "--out", str(tmp_path / "c")]
    told = subprocess.run(
        command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    )
    assert told.returncode == 0 and b" +- " in told.stdout and b"Traceback" not in told.stderr, told.stderr

"""Tables of one's own: what is in a file, which columns and classes are taken, and all that can be wrong with it."""

import csv
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.datasets.csv_cells import number
from neurosbd.datasets.inspect import inspect
from neurosbd.datasets.load import load_data
from neurosbd.errors import UsageError, UsageWarning

X = np.random.default_rng(0).standard_normal((60, 3))
Y = np.arange(60) % 2


def table(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
    return path


def plain(path: Path, labels: Any = Y, values: np.ndarray = X) -> Path:
    return table(
        path, [*"abc"[: values.shape[1]], "label"], [[*r, y] for r, y in zip(values.tolist(), labels, strict=True)]
    )


def said(load: Callable[[], Any]) -> tuple[Any, str]:
    """What is loaded, and every warning on the way."""
    with pytest.warns(UsageWarning) as record:
        found = load()
    return found, "\n".join(str(warning.message) for warning in record)


# Columns ------------------------------------------------------------------------------------------


def counting(kind: str) -> list[float]:
    n = np.arange(60)
    return {
        "from 0": n, "from 1": n + 1, "down": 59 - n, "steps of a third": np.round(n / 3, 2), "years": 1950 + n,
        "shuffled": np.random.default_rng(0).permutation(60),
    }[kind].tolist()  # fmt: skip


@pytest.mark.parametrize("kind", ["from 0", "from 1", "down", "steps of a third", "years", "shuffled"])
def test_a_column_that_numbers_the_rows_is_found(kind: str, tmp_path: Path) -> None:
    """Nameless, as pandas writes it: refused. Under a name of its own: said, with how to leave it out.

    Must fail when only the name is looked at, or only columns from 0 (both tried).
    """
    rows = [[n, *r, y] for n, r, y in zip(counting(kind), X.tolist(), np.sort(Y), strict=True)]
    for name, fix in (("", '["-"]'), ("Unnamed: 0", '["-Unnamed: 0"]')):
        path = table(tmp_path / "index.csv", [name, *"abc", "label"], rows)
        with pytest.raises(UsageError) as refused:
            load_data(path)
        assert f"input 1, {name!r}" in str(refused.value) and f"--set 'data.columns={fix}'" in str(refused.value)
        data = load_data(path, columns=json.loads(fix))
        assert data.columns == ("a", "b", "c") and data.dropped == (name,) and data.size == (3,)
    path = table(tmp_path / "named.csv", ["trial", *"abc", "label"], rows)
    data, words = said(lambda: load_data(path))
    assert data.size == (4,) and "column 'trial'" in words and "'data.columns=[\"-trial\"]'" in words
    assert said(lambda: load_data(path))[1] == words  # from the cache too
    assert load_data(path, columns=["trial", "a"]).size == (2,)  # asked for by its name, it is wanted


def test_the_index_of_either_split_is_found(tmp_path: Path) -> None:
    """Training rows that are numbered from 0 again behind those of the test."""
    n, part = [*range(20), *range(40)], ["test"] * 20 + ["train"] * 40
    rows = [[i, *r, y, s] for i, r, y, s in zip(n, X.tolist(), Y, part, strict=True)]
    with pytest.raises(UsageError, match="counts the rows"):
        load_data(table(tmp_path / "a.csv", ["", *"abc", "label", "split"], rows))


def test_columns_that_do_not_number_the_rows_are_left_alone(tmp_path: Path) -> None:
    """Times of unequal steps, repeated and random whole numbers, few rows; a nameless one is said all the same."""
    rng = np.random.default_rng(0)
    columns = (np.cumsum(1 + rng.random(60)), np.arange(60) // 2, rng.integers(0, 60, 60))
    data = load_data(
        table(tmp_path / "a.csv", ["t", "u", "v", "label"], zip(*(c.tolist() for c in columns), Y, strict=True))
    )
    assert data.size == (3,)
    few = table(
        tmp_path / "b.csv", ["a", "label", "split"], [[i, i % 2, "test" if i > 6 else "train"] for i in range(9)]
    )
    assert load_data(few).size == (1,)
    data, words = said(
        lambda: load_data(table(tmp_path / "c.csv", ["", "label"], zip(X[:, 0].tolist(), Y, strict=True)))
    )
    assert data.size == (1,) and "column '' has no name" in words


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        (("a", "c"), "ac"),
        (("-b",), "ac"),
        (("-[ab]",), "c"),
        (("?", "-c"), "ab"),
        (("c", "a"), "ac"),
        (("*",), "abc"),
    ],
)
def test_columns_are_chosen_by_name(columns: tuple[str, ...], read: str, tmp_path: Path) -> None:
    data = load_data(plain(tmp_path / "a.csv"), columns=columns)
    assert data.columns == tuple(read) and data.dropped == tuple(c for c in "abc" if c not in read)
    np.testing.assert_array_equal(data.train.values[0], X[0, ["abc".index(c) for c in read]])


def test_columns_of_words_can_be_left_out(tmp_path: Path) -> None:
    """What is not read need not be a number; '-x' itself is a legal name."""
    path = table(
        tmp_path / "a.csv", ["animal", "-x", "label"], [["cat", x, y] for x, y in zip(X[:, 0].tolist(), Y, strict=True)]
    )
    with pytest.raises(UsageError, match="line 2, column 'animal': 'cat' is no number"):
        load_data(path)
    assert load_data(path, columns=["-animal"]).columns == ("-x",)
    assert load_data(path, columns=["-x"]).columns == ("-x",)


@pytest.mark.filterwarnings("always::neurosbd.errors.UsageWarning")
def test_a_check_shows_every_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, mean, deviation, range; what is constant, what is left out, and how many examples each class has."""
    rows = [["cat", 2460000.5 + 0.25 * (i % 3), 7.0, *r[:1], i % 4 == 3] for i, r in enumerate(X.tolist())]
    path = table(tmp_path / "a.csv", ["animal", "day", "b", "a", "label"], [[*r[:4], int(r[4])] for r in rows])
    assert main(["data", "check", str(path)]) == 2
    fix = next(part for part in capsys.readouterr().err.split("'") if part.startswith("data.columns="))
    assert main(["data", "check", str(path), "--set", fix]) == 0
    shown = capsys.readouterr()
    day = next(line for line in shown.out.splitlines() if line.strip().startswith("day ")).split()
    assert float(day[1]) == pytest.approx(2460000.75, abs=1e-6) and day[3:] == ["2460000.5", "..", "2460001"]
    line = next(line for line in shown.out.splitlines() if line.strip().startswith("b "))
    assert line.split() == ["b", "7", "constant", "7", "..", "7"] and "column 'b' is the same in all 48" in shown.err
    assert "left out by data.columns (1): animal" in shown.out and "train: 0 36, 1 12" in shown.out
    assert main(["data", "check", str(path), "--set", "data.subset=3"]) == 2
    assert "no other setting than data.columns" in capsys.readouterr().err
    assert main(["data", "check", str(path), "--set", "data.columns=3"]) == 2
    assert main(["data", "check", "diabetes"]) == 0 and "glu  " in capsys.readouterr().out


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv", ["time", "speed", "label"], [[*r[:2], y] for r, y in zip(X.tolist(), Y, strict=True)]
    )
    with pytest.raises(UsageError, match="no column 'sped'; did you mean 'speed'"):
        load_data(path, columns=["-sped"])
    with pytest.raises(UsageError, match="the columns are label; the first line must name"):
        load_data(path, columns=["-time", "-speed"])
    with pytest.raises(UsageError, match=r"data\.columns chooses columns of a table, but 'digits' has none"):
        load_data("digits", columns=["a"])


def test_columns_from_the_command_line_and_a_model_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The setting is kept with the run, so that resume and `predicted` read the same columns."""
    rows = [[i, *r, int(r[0] > 0)] for i, r in enumerate(X.tolist())]
    path = table(tmp_path / "index.csv", ["Unnamed: 0", *"abc", "label"], rows)
    text = MODEL.replace("COLUMNS", "")
    (tmp_path / "m.toml").write_text(text)
    out = tmp_path / "run"
    assert main(["fit", str(tmp_path / "m.toml"), "--data", str(path), "--out", str(out)]) == 2
    fix = next(part for part in capsys.readouterr().err.split("'") if part.startswith("data.columns="))
    assert main(["fit", str(tmp_path / "m.toml"), "--data", str(path), "--out", str(out), "--set", fix]) == 0
    assert neurosbd.open_run(out).definition.data.columns == ("-Unnamed: 0",)
    (tmp_path / "m.toml").write_text(MODEL.replace("COLUMNS", 'columns = "-Unnamed*"'))
    assert main(["fit", str(tmp_path / "m.toml"), "--data", str(path), "--out", str(tmp_path / "again")]) == 0
    (tmp_path / "mine.toml").write_text(OWN.format("index.csv") + 'columns = ["a", "b"]\n')
    assert load_data(tmp_path / "mine.toml", tmp_path).columns == ("a", "b")


OWN = 'about = "x"\nlicence = "x"\nsource = "x"\nreader = "csv"\nfiles = {{ all = ["{}"] }}\n'
MODEL = """
rule = "bp"
[data]
name = "csv"
COLUMNS
[training]
epochs = 1
[population]
input = { size = [3] }
output = { size = [2], neuron = "identity" }
[[connection]]
pre = "input"
post = "output"
kind = "dense"
"""


def test_features_of_an_npz_have_names(tmp_path: Path) -> None:
    values = np.column_stack((X, np.arange(60)))
    np.savez(tmp_path / "a.npz", train_values=values, train_labels=Y, test_values=values, test_labels=Y)
    data, words = said(lambda: load_data(tmp_path / "a.npz"))
    assert data.columns == ("x0", "x1", "x2", "x3") and "column 'x3' counts the rows" in words
    assert load_data(tmp_path / "a.npz", columns=["-x3"]).size == (3,)
    with pytest.raises(UsageError, match="leaves no input of 4"):
        load_data(tmp_path / "a.npz", columns=["-x*"])


def test_features_of_an_npz_have_the_names_of_the_file(tmp_path: Path) -> None:
    """Must fail if the names are not read (tried)."""
    values = np.column_stack((X, np.arange(60)))
    arrays: dict[str, Any] = {
        f"{on}_{what}": v for on in ("train", "test") for what, v in (("values", values), ("labels", Y))
    }
    np.savez(tmp_path / "a.npz", **arrays, feature_names=["a", "b", "c", "row"])
    data, words = said(lambda: load_data(tmp_path / "a.npz"))
    assert data.columns == ("a", "b", "c", "row") and "column 'row' counts the rows" in words
    assert load_data(tmp_path / "a.npz", columns=["-row"]).size == (3,)
    for names, message in (
        (["a", "b", "c"], "3 names of features, 3 of them different, for 4 features"),
        (["a", "b", "c", "a"], "4 names of features, 3 of them different, for 4 features"),
        ([1, 2, 3, 4], r"feature_names are int64 \[4\]; give texts"),
    ):
        np.savez(tmp_path / "b.npz", **arrays, feature_names=names)
        with pytest.raises(UsageError, match=message):
            load_data(tmp_path / "b.npz")
    assert load_data("diabetes").columns[2] == "bmi" and len(load_data("doctor-visits").columns) == 9


def test_a_file_is_known_by_its_suffix_in_any_case_and_named_in_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must fail where suffixes are compared as written, or the folder is named in place of the file (both tried)."""
    assert load_data(plain(tmp_path / "A.CSV")).size == (3,)
    bad = X.copy()
    bad[1, 1] = np.nan
    np.savez(tmp_path / "b.npz", train_values=bad, train_labels=Y, test_values=X, test_labels=Y)
    with pytest.raises(UsageError, match=r"B\.NPZ: train: 1 of 60 examples hold NaN"):
        load_data((tmp_path / "b.npz").rename(tmp_path / "B.NPZ"))
    (tmp_path / "c.tsv").write_text("a\tlabel\n")
    with pytest.raises(UsageError, match=r"c\.tsv: is no file that is read here; give a \.csv of numbers"):
        load_data(tmp_path / "c.tsv")
    monkeypatch.chdir(tmp_path)  # a bare name, which could be that of a set
    with pytest.raises(UsageError, match=r"c\.tsv: is no file that is read here"):
        inspect("c.tsv")


def test_columns_that_are_constant_or_of_another_unit_in_the_test_are_said(tmp_path: Path) -> None:
    values = X.copy()
    values[:, 1] = 7e9
    values[4::5, 2] = 1e6 * X[4::5, 2]
    data, words = said(lambda: load_data(plain(tmp_path / "a.csv", values=values)))
    assert "column 'b' is the same in all 48 training examples" in words and np.isinf(data.std[1])
    assert "column 'c' is up to" in words and "deviations away from the training mean in the test split" in words
    values[4::5, 2] *= 1e60
    with pytest.raises(UsageError, match="column 'c' is out of all proportion in the test split"):
        load_data(plain(tmp_path / "b.csv", values=values))


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[1, 2], [0, 2], [3, 7], [0, 4_000_000_000], [5, 2**53 - 1]])
def test_labels_that_do_not_count_from_0_are_the_classes_there_are(labels: list[int], tmp_path: Path) -> None:
    """Named as they are, numbered in their order, and said.

    Must fail when a name is made for every number up to the largest (tried, up to 99).
    """
    data, words = said(lambda: load_data(plain(tmp_path / "a.csv", np.array(labels)[Y])))
    assert data.classes == tuple(map(str, labels)) and list(data.train.labels[:2]) == [0, 1]
    missing = next(i for i, label in enumerate(labels) if label != i)
    assert f"no example has the label {missing}, so the 2 labels that occur" in words
    y = np.array(labels)[Y]
    np.savez(tmp_path / "a.npz", train_values=X, train_labels=y, test_values=X, test_labels=y)
    assert said(lambda: load_data(tmp_path / "a.npz"))[0].classes == data.classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0] * 60, "all 48 training examples are of class '0'; there is nothing to learn from a single class"),
        ([5] * 60, "of class '5'"),
        (np.arange(60), "60 different labels, from 0 to 59, for 48 training examples"),
        (np.arange(60) * 10**9, "60 different labels, from 0 to 59000000000"),
        ([0, -1] * 30, "line 3: the label is -1; give integers from 0"),
        ([0, 1, 0.5] * 20, "line 4: the label is 0.5; give integers from 0"),
        ([0, 2**60] * 30, "line 3: the label is 1152921504606846976"),
        ([0, "nan"] * 30, "line 3, column 'label': 'nan' is no number; number the classes from 0 on"),
        (["dog ", "cat"] * 30, "line 2, column 'label': 'dog ' is no number; number the classes from 0 on"),
        ([0, ""] * 30, "line 3, column 'label': the label is missing"),
        ([0, "True"] * 30, "line 3, column 'label': 'True' is no number"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no example has the label")
def test_labels_that_are_none(labels: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(plain(tmp_path / "a.csv", labels))


def test_labels_may_have_spaces_and_points(tmp_path: Path) -> None:
    """As pandas writes them once a column had a gap: 1.0."""
    assert load_data(plain(tmp_path / "a.csv", [" 0 ", "1.0"] * 30)).classes == ("0", "1")


def test_classes_without_examples_are_named(tmp_path: Path) -> None:
    """One in the test alone, one in training alone, one of which there are next to none."""
    labels = np.array([0, 1] * 600)
    labels[[4, 9, 14]] = 2  # every fifth line is a test example
    labels[-2] = 3
    values = np.random.default_rng(0).standard_normal((1200, 3))
    data, words = said(lambda: load_data(plain(tmp_path / "a.csv", labels, values)))
    assert len(data.classes) == 4
    assert "1 of 4 classes (2) have no training example, but 3 in the test" in words
    assert "1 of 4 classes (3) have no test example" in words
    assert (
        "class '3' has 1 training examples, '0' 480" in words or "class '3' has 1 training examples, '1' 480" in words
    )
    with pytest.raises(UsageError, match=r"data\.subset is 5 for each class, but class 3 has 1 examples"):
        load_data(tmp_path / "a.csv", subset=5)
    part, words = said(lambda: load_data(tmp_path / "a.csv", subset=1))
    assert sorted(part.train.labels) == [0, 1, 3] and "no training example" in words


def test_named_classes_keep_their_numbers(tmp_path: Path) -> None:
    plain(tmp_path / "a.csv", 2 * Y)
    (tmp_path / "mine.toml").write_text(OWN.format("a.csv") + 'classes = ["x", "y", "z"]\n')
    data, words = said(lambda: load_data(tmp_path / "mine.toml", tmp_path))
    assert data.classes == ("x", "y", "z") and data.train.labels.max() == 2
    assert "1 of 3 classes (y) have no example at all" in words


# Cells and lines ----------------------------------------------------------------------------------


def test_lines_are_counted_as_in_the_file(tmp_path: Path) -> None:
    """Behind empty lines, and behind a cell that spans two."""
    text = 'a,"b\nb",label\n\n\n1,2,0\n\n3,word,1\n'
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError, match=r"line 7, column 'b.*b': 'word' is no number"):
        load_data(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is nothing in it"),
        (b"a,b,label\n", "0 lines of numbers; needed are 5 at least, of which every fifth is a test example"),
        (b"a,b,label\n1,2,0\n", "1 lines of numbers; needed are 5"),
        (b"a,split,label\n", "0 lines of numbers; needed are 1 at least"),
        (b"a;b;label\n1,5;2;0\n", "'a;b;label': its names are separated by semicolons; write the file with commas"),
        (b"a\tb\tlabel\n1\t2\t0\n", "separated by tabs"),
        (b"a,b,a,label\n1,2,3,0\n", "2 columns are named 'a'; rename all but one"),
        (b"a,target,target:target\n1,2,3\n", "two targets are called 'target'"),
        (b"a,b,label\n1,2,0\n1,2\n", "line 3 has 2 cells, but there are 3 columns"),
        (b"a,b,label\n1,2,0,\n", "line 2 has 4 cells, but there are 3 columns"),
        (b"a,b,label\n1,2,0\n1,\xe9,0\n", r"line 3 is not UTF-8 \(byte 0xe9\); save the file as UTF-8"),
        ("a,b,label\n1,2,0\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a,b,label\n1,2,0\n".encode("utf-16-le"), "line 1 holds a NUL byte; is it UTF-16"),
        (b"a,b,label\n1,2,0\n1,\0,0\n", "line 3 holds a NUL byte"),
        (b'a,b,label\n1,2,0\n1,"2,0\n1,2,1\n', "line 3: unexpected end of data; is a quote opened there"),
        (b'a,b,label\n1,"2"3,0\n', "line 2: ',' expected after '\"'"),
        (b"a,b,label\n1," + b"7" * 200_000 + b",0\n", "line 2: field larger than field limit"),
        (b"a,b,label\n1," + b"7" * 400 + b",0\n", "line 2, column 'b': '7777.*' is beyond what float64 holds"),
        (b'a,b,label\n1,"2,5",0\n', "line 2, column 'b': '2,5' is no number; write a decimal point, not a comma"),
        (b"a,b,label\n1,,0\n", "line 2, column 'b': the cell is empty; fill it, or leave out the line, or the col"),
        (b"a,b,label\n1,inf,0\n", "'inf' is no finite number"),
        (b"a,b,label\n1,NA,0\n", "'NA' is no finite number"),
        (b"a,b,label\n1,True,0\n", "'True' is no number; write 1 and 0"),
        (b"a,b,label\n1,1_000,0\n", "'1_000' is not written in plain digits"),
        ("a,b,label\n1,１２,0\n".encode(), "'１２' is not written in plain digits"),
        (b"a,b,label\n1,1e-400,0\n", "'1e-400' is beyond what float64 holds"),
        (b"a,Class\n1,2\n", "is 'Class' to be predicted"),
        (b"a,label,split\n1,0,Train\n", "line 2: split is 'Train'; legal are train and test"),
        (b"a,label,target\n1,0,2.5\n", "both be learned: leave one out, --set 'data.columns="),
        (b"0.1,0.2,1\n0.3,0.4,0\n", "the columns are 0.1, 0.2, 1; the first line must name the columns"),
        (b"a,\x1b[2J,label\n1,word,0\n", r"column '\\x1b\[2J': 'word'"),
    ],
)  # fmt: skip
def test_tables_that_are_none(content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence each, with the line; on the command line too."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_data(path)
    assert main(["data", "check", str(path)]) == 2 and "Traceback" not in capsys.readouterr().err


def test_lines_and_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before memory is asked for."""
    path = plain(tmp_path / "a.csv")
    monkeypatch.setattr("neurosbd.datasets.csv_cells._LONGEST", 20)
    with pytest.raises(UsageError, match="line 2 is longer than 20 characters"):
        load_data(path)
    monkeypatch.setattr("neurosbd.datasets.csv_cells._LARGEST", 100)
    with pytest.raises(UsageError, match=r"bytes; the limit of a \.csv is 100"):
        load_data(path)


def test_numbers_are_read_as_written(tmp_path: Path) -> None:
    """A byte order mark, Windows and old Macintosh line ends, quoted and spaced cells."""
    for cell, value in (
        ("1", 1),
        (" -2.5e-3 ", -2.5e-3),
        ("+.5", 0.5),
        ("7.", 7),
        ("0e5", 0),
        ("-0", 0),
        ("1E10", 1e10),
    ):
        assert number(cell) == value
    lines = ["a,b,label", *(f'{x!r},"{i}",{i % 2}' for i, x in enumerate(X[:5, 0].tolist()))]
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
        data, _ = said(lambda: load_data(tmp_path / "a.csv"))  # a single test example
        assert data.train.values[3].tolist() == [X[3, 0], 3]


def test_whole_numbers_that_float64_rounds_are_said(tmp_path: Path) -> None:
    values = [[2**53 + 1 + 2 * i * i, y] for i, y in enumerate(Y)]
    _, words = said(lambda: load_data(table(tmp_path / "a.csv", ["id", "label"], values)))
    assert "column 'id': 60 whole numbers are too large for float64" in words
    assert "line 2: 9007199254740993 becomes 9007199254740992" in words


# Arrays -------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def claims(shape: str, kind: str = "|u1", there: int = 5000) -> bytes:
    """The header of an array that is larger than what follows."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (64 - (11 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(there)


def archive(path: Path, train_values: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    images, labels = npy(np.zeros((40, 8, 8), np.uint8)), npy(np.arange(40) % 10)
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("train_values.npy", train_values)
        for name, content in (("train_labels", labels), ("test_values", images), ("test_labels", labels)):
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claims("(1000000000000, 8, 8)"), r"says that it is \[1000000000000, 8, 8\] of uint8, 64,000,000,000,000"),
        (claims("(40, 8, 8)"), "says that it is .40, 8, 8. of uint8, 2,560 bytes, but"),
        (claims("(-1, 8, 8)"), "a negative length"),
        (claims("(0, 1000000000000000000000000)", there=0), "not a readable .npz"),
        (claims("(" + "(" * 4000), "not a readable .npz"),
        (claims("(5,)", "|O"), "holds Python objects; give plain arrays"),
        (b"\x93NUMPY\x09\x00", "not a readable .npz"),
        (b"", "not a readable .npz"),
        (npy(np.array([{}, {}], object)), "holds Python objects; give plain arrays"),
        (npy(np.ones((40, 2), complex)), r"values are complex128 \[40, 2\]; give images as uint8"),
        (npy(np.ones((40, 2), "datetime64[s]")), "values are datetime64"),
        (npy(np.ones((40, 2), bool)), "values are bool"),
        (npy(np.ones((40, 0))), r"values are float64 \[40, 0\]"),
        (npy(np.ones((2, 1 << 21), np.uint16)), r"\(n up to 1,048,576\)"),
        (npy(np.zeros(40, [("a", float)])), "values are .*; give images"),
        (npy(np.ones((39, 2))), "train: 39 examples, but 40 labels"),
        (npy(np.full((40, 2), 1e301)), "40 of 40 examples hold NaN, infinity or more than 1e300"),
        (npy(np.full((40, 2), -np.inf, np.float32)), "40 of 40 examples hold NaN"),
    ],
)  # fmt: skip
def test_arrays_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(archive(tmp_path / "a.npz", content))


def test_archives_that_lie(tmp_path: Path) -> None:
    """Damaged deflate streams, another compression, a directory that promises more than its bytes can hold."""
    rng = np.random.default_rng(0)
    path = archive(tmp_path / "a.npz", npy(rng.integers(0, 99, (40, 8, 8)).astype(np.uint8)))
    whole = path.read_bytes()
    for place in range(100, 900, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(UsageError):
            load_data(path)
    with pytest.raises(UsageError, match="packed in a way that numpy never does"):
        load_data(archive(tmp_path / "b.npz", npy(np.zeros((40, 8, 8), np.uint8)), zipfile.ZIP_BZIP2))
    claim = 10**9
    content = bytearray(archive(tmp_path / "c.npz", claims(f"({claim},)")).read_bytes())
    entry = content.find(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", claim)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"says that it is 1,000,000,000 bytes, but the .* cannot hold them"):
        load_data(path)


def test_labels_of_arrays(tmp_path: Path) -> None:
    def load(labels: np.ndarray) -> Any:
        np.savez(tmp_path / "a.npz", train_values=X, train_labels=labels, test_values=X, test_labels=Y)
        return load_data(tmp_path / "a.npz")

    for labels, message in (
        (np.array([0, 2**63 + 1] * 30, np.uint64), "train_labels go up to 9223372036854775809"),
        (Y == 0, "train_labels are bool"),
        (Y - 1, "labels go from -1 to 1; give integers from 0"),
        (Y.astype(str), "train_labels are <U21"),
    ):
        with pytest.raises(UsageError, match=message):
            load(labels)
    assert load(Y.astype(">i2")).classes == ("0", "1")

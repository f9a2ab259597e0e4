"""`neurosbd analyse`: the page, its numbers and files, a user's own analyses, and everything that can be wrong."""

import csv
import io
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.cli.catalogue import catalogue, show
from neurosbd.cli.main import main
from neurosbd.errors import UsageError
from neurosbd.files.library import names
from neurosbd.report import quantity_field
from neurosbd.report.quantities import quantities, tables, tidy
from neurosbd.report.statistics import estimate

HOSTILE = '<script>alert("x")</script>'
OWN = '''"""Squares of the test losses.

Source: none.
"""
from dataclasses import dataclass

import numpy as np

from neurosbd.report import quantity_field, panels


@dataclass(frozen=True)
class Result:
    layer: tuple[str, ...]
    square: np.ndarray = quantity_field("1", "layer")
    total: float = quantity_field("nat^2")


def analyse(run):
    losses = np.array([line["test_loss"] for line in run.metrics])
    return Result(tuple(f"<b>{i}</b>" for i in range(len(losses))), losses**2, float((losses**2).sum()))


def figure(result):
    drawn, (ax,) = panels(1)
    ax.plot(result.square)
    return drawn


def caption(result):
    return "<i>squares</i>"


def advice(result):
    return ["try <u>smaller</u> squares"]
'''


class Page(HTMLParser):
    """Text, tags and their attributes; complains about tags that are not closed in order."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(report: neurosbd.Report) -> Page:
    return Page(report.path.read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of the smallest model, two epochs on few examples, without a trace."""
    settings = {"training.epochs": 2, "data.subset": 8, "data.test_subset": 4}
    return neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run").path


def own(tmp_path: Path, text: str = OWN, name: str = "squares.py") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_page_stands_alone_and_numbers_are_those_of_the_run(run: Path, tmp_path: Path) -> None:
    """Must fail when a figure is linked instead of embedded, a script gets in, or a number is rounded on the way."""
    report = neurosbd.analyse(run, [own(tmp_path)])
    page = page_of(report)
    assert report.path == run / "report" / "index.html" and not report.failed
    sources = [attributes.get("src") or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == len(report.shown) >= 2 and all(source.startswith("data:image/") for source in sources)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe"}
    opened = neurosbd.open_run(run)
    squares = [line["test_loss"] ** 2 for line in opened.metrics]
    content = json.loads((run / "report" / "metrics.json").read_text())
    assert content["analyses"]["squares"]["fields"]["square"] == {"unit": "1", "axes": ["layer"], "values": squares}
    assert content["run"]["metrics"] == opened.metrics
    rows = list(csv.DictReader(io.StringIO((run / "report" / "metrics.csv").read_text())))
    found = [(row["layer"], float(row["value"])) for row in rows if row["field"] == "square"]
    assert found == [("<b>0</b>", squares[0]), ("<b>1</b>", squares[1])]
    for result in report.shown:
        assert (run / "report/figures" / f"{result.name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (run / "report/figures" / f"{result.name}.svg").read_bytes()
    for word in ("digits-mlp", "sbd", f"{opened.metrics[-1]['test_accuracy']:.2%}", "data.subset", "torch"):
        assert word in page.text, word


def test_what_was_not_recorded_is_listed_with_the_record_that_provides_it(run: Path) -> None:
    """And no file that is not there is called damaged. Must fail when a missing signal is an error, its --record is not
    said, or the configuration of a run is looked for in a trace that it has not (tried)."""
    report = neurosbd.analyse(run)
    assert "not shown, 0 failed" in repr(report) and len(repr(report)) < 300
    missing = [result for result in report.outcomes if result.spec]
    assert missing and len(report.outcomes) == len(names("analysis"))
    text = page_of(report).text
    assert "damaged" not in text and "spike_statistics" in [result.name for result in missing]
    for result in missing:
        assert f'--record "{result.spec}"' in text
    assert "neurosbd fit digits-mlp --rule sbd --seed 0" in text


def test_hostile_strings_come_out_escaped(run: Path, tmp_path: Path) -> None:
    """Must fail when autoescape is off or a string is marked safe."""
    config = json.loads((run / "config.json").read_text())
    config["definition"] |= {"name": HOSTILE, "about": HOSTILE}
    config["definition"]["population"][HOSTILE] = {"size": [1], "neuron": None}
    (run / "config.json").write_text(json.dumps({**config, "commit": HOSTILE, "versions": {HOSTILE: HOSTILE}}))
    edit(run / "result.json", warnings=[HOSTILE], status=HOSTILE, measures={HOSTILE: HOSTILE})
    analysis = own(tmp_path, OWN.replace("Squares of", f"{HOSTILE.replace(chr(34), chr(39))} of"), "<img src=x>.py")
    report = neurosbd.analyse(run, [analysis])
    page = page_of(report)
    assert {tag for tag, _ in page.tags} & {"script", "b", "i", "u"} == set()
    assert HOSTILE in page.text and "<i>squares</i>" in page.text and "try <u>smaller</u> squares" in page.text
    written = {path.name for path in (run / "report" / "figures").iterdir()}
    assert all("<" not in name for name in written)


def test_a_report_is_replaced_and_a_strangers_page_is_not(run: Path, tmp_path: Path) -> None:
    """Must fail when an old figure stays, or a file that is not ours goes."""
    analysis = own(tmp_path)
    neurosbd.analyse(run, [analysis])
    (run / "report" / "notes.txt").write_text("mine")
    (run / "report" / "figures" / "mine.png").write_text("mine")
    report = neurosbd.analyse(run)
    files = {path.name for path in (run / "report" / "figures").iterdir()}
    assert "squares.png" not in files and "mine.png" in files and (run / "report" / "notes.txt").exists()
    assert len(files) == 1 + 2 * len(report.shown)
    strange = tmp_path / "site"
    strange.mkdir()
    (strange / "index.html").write_text("my own page")
    with pytest.raises(UsageError, match="left alone"):
        neurosbd.analyse(run, out=strange)
    assert [path.name for path in strange.iterdir()] == ["index.html"]


def test_a_failing_disk_leaves_the_page_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when index.html is written before what it names, or not atomically."""
    import neurosbd.report.page as module

    before = neurosbd.analyse(run).path.read_text()
    edit(run / "result.json", warnings=["new"])
    real = module.write_atomic

    def full(path: Path, write: Any) -> None:
        if path.suffix == ".csv":
            raise OSError(28, "No space left on device")
        real(path, write)

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(UsageError, match="No space left"):
        neurosbd.analyse(run)
    assert (run / "report" / "index.html").read_text() == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def analyse(run):\n    return 1 / 0\ndef figure(result): ...\n", "ZeroDivisionError: division by zero"),
        ("def analyse(run):\n    return 3\ndef figure(result): ...\n", "returned int"),
        (OWN.replace("    return drawn", "    return 7"), "returned int; legal is a matplotlib Figure"),
        (OWN.replace("ax.plot(result.square)", "drawn.savefig = None"), "TypeError: 'NoneType' object"),  # when drawn
    ],
)
def test_a_failing_analysis_is_told_and_the_others_still_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    """Must fail when one analysis stops the others, or its mistake goes unseen."""
    analysis = own(tmp_path, body, "broken.py")
    assert main(["analyse", str(run), "--with", str(analysis)]) == 1
    assert "broken: FAILED" in capsys.readouterr().out
    page = Page((run / "report" / "index.html").read_text())
    assert said in page.text and "Analyses that failed" in page.text
    if "1 / 0" in body:
        assert f"{analysis}:2" in page.text
    shown = json.loads((run / "report" / "metrics.json").read_text())["analyses"]
    assert "learning_curves" in shown and "broken" not in shown


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.py", "x = 1\n", r"has no analyse\(\) and no figure\(\)"),
        ("a.py", "def analyse(run): ...\n", r"has no figure\(\);"),
        ("a.py", "def analyse(run:\n", r"a.py:1: not Python"),
        ("a.py", "import no_such_module\n", r"cannot be loaded: ModuleNotFoundError.*a.py:1"),
        ("a.txt", "", "its name ends in .py"),
        ("folder/a.py", None, "no such file"),
    ],
)
def test_a_file_that_is_no_analysis_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name if text is None else own(tmp_path, text, name)
    with pytest.raises(UsageError, match=said):
        neurosbd.analyse(run, [path])
    assert not (run / "report").exists()


def test_own_analysis_takes_the_place_of_a_shipped_one_of_its_name(run: Path, tmp_path: Path) -> None:
    report = neurosbd.analyse(run, [own(tmp_path, name="learning_curves.py"), "learning_curves"][:1])
    assert len(report.outcomes) == len(names("analysis")) and report["learning_curves"].caption == "<i>squares</i>"
    with pytest.raises(UsageError, match="two analyses called 'learning_curves'"):
        neurosbd.analyse(run, [tmp_path / "learning_curves.py", "learning_curves"])


def test_unfinished_empty_and_nan_runs_have_a_page(run: Path) -> None:
    """Must fail when a run without result, epochs or finite losses cannot be looked at."""
    (run / "result.json").unlink()
    assert "its process ended without a word" in page_of(neurosbd.analyse(run)).text
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[1] |= {"test_loss": None, "test_accuracy": None}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = neurosbd.analyse(run)
    assert "NaN or infinite in 1 of 2 epochs, first in epoch 2" in page_of(report).text
    assert not report.failed, [result.problem for result in report.failed]
    (run / "metrics.jsonl").write_text("")
    report = neurosbd.analyse(run)
    assert "No epoch was finished" in page_of(report).text and not report.failed


def test_a_damaged_trace_costs_only_what_needs_it(run: Path) -> None:
    """Must fail when a bad trace file stops the page, or nobody says what is wrong with it."""
    (run / "trace.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    report = neurosbd.analyse(run)
    text = page_of(report).text
    assert "The trace cannot be read:" in text and "truncated or corrupt" in text
    assert "learning_curves" in {result.name for result in report.shown} and not report.failed


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2", "scipy"])
def test_what_is_not_installed_is_named(run: Path, missing: str) -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == {missing!r} else real(name, *a)\n"
        f"from neurosbd.cli.main import main; sys.exit(main(['analyse', {str(run)!r}]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 2 and f"need {missing}: pip install 'neurosbd[report]'" in answer.stderr


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["analyse", str(run), str(tmp_path / "empty")]) == 2
    assert "holds no run" in capsys.readouterr().err and not (run / "report").exists()
    (run / "config.json").write_text("[]")
    assert main(["analyse", str(run)]) == 2


def test_several_runs_get_a_folder_each(run: Path, tmp_path: Path) -> None:
    assert main(["analyse", str(run), str(run), "--out", str(tmp_path / "pages")]) == 0
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"run", "run-2"}


def test_every_analysis_is_listed_shown_and_well_formed(capsys: pytest.CaptureFixture[str]) -> None:
    assert {row.name for row in catalogue("analyses")} == set(names("analysis"))
    for row in catalogue("analyses"):
        assert 10 < len(row.about) < 120 and row.name in show(row.name) and "(analyses)" in show(row.name)
    assert main(["list", "analyses"]) == 0 and "learning_curves" in capsys.readouterr().out


def test_quantities_of_all_shapes() -> None:
    """Must fail when NaN becomes a number, labels are lost, or ragged rows are padded."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Result:
        layer: tuple[str, ...]
        matrix: np.ndarray = quantity_field("Hz", "layer", "unit")
        ragged: tuple[np.ndarray, ...] = quantity_field("1", "layer", "unit")
        square: np.ndarray = quantity_field("1", "unit", "unit")
        extent: np.ndarray = quantity_field("1", "layer", "epoch")
        named: dict[str, float] = quantity_field("s", "name")
        alone: float = quantity_field("mV")

    result = Result(
        ("a", "b"), np.array([[1, np.nan], [3, np.inf]]), (np.array([1]), np.array([2, 3])), np.eye(2),
        np.array([[1.0, 5.0, 2.0], [4.0, 9.0, 4.0]]), {"x": 0.5}, 7.0,
    )  # fmt: skip
    found = quantities(result)
    values = {q.name: list(q.cells()) for q in found}
    assert values["matrix"] == [(("a", 0), 1.0), (("a", 1), None), (("b", 0), 3.0), (("b", 1), None)]
    assert values["ragged"] == [(("a", 0), 1), (("b", 0), 2), (("b", 1), 3)]
    assert values["named"] == [(("x",), 0.5)] and values["alone"] == [((), 7.0)]
    lines = tidy({"mine": found}).splitlines()
    assert lines[0] == "analysis,field,unit,layer,unit axis,unit axis 2,epoch,name,value"
    assert "mine,matrix,Hz,a,1,,,," in lines and "mine,alone,mV,,,,,,7.0" in lines
    small, rest = tables(found)
    assert not rest and any(row == ("a", "1 → 2") for table in small for row in table.rows)
    assert any(row == ("b", 4.0) for table in small for row in table.rows)


def test_estimates() -> None:
    """Oracles: numpy's mean and std; coverage of the interval; must fail with n in place of n - 1 or no rng seed."""
    data = [0.91, 0.93, 0.97, 0.9, 0.95]
    found = estimate(data)
    assert found.mean == pytest.approx(np.mean(data)) and found.std == pytest.approx(np.std(data, ddof=1))
    assert found == estimate(data) and found.remark == "BCa"
    assert None not in (found.low, found.mean, found.high)
    assert np.all(np.diff(np.array([min(data), found.low, found.mean, found.high], float)) > 0)
    rng = np.random.default_rng(1)
    intervals = [estimate(list(rng.normal(size=20))) for _ in range(60)]
    inside = sum(1 for one in intervals if (one.low or 0) < 0 < (one.high or 0))
    assert 48 <= inside <= 60  # 95 % of 60 is 57; BCa with n = 20 covers a little less
    assert estimate([]).mean is None and estimate([1.0]).std is None
    assert "n < 3" in estimate([1.0, 2.0]).remark and estimate([1.0, 2.0]).low is None
    same = estimate([0.1 + 0.2, 0.3, 0.3])
    assert same.low is None and "all values are the same" in same.remark
    lop = estimate([1.0, 1.0, 1.0, 1.0, 5.0])
    assert lop.low is not None and lop.high is not None and lop.low <= lop.high

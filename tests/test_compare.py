"""`neurosbd compare`: grouping, statistics of the last epoch, warnings, and files."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.runs.run import write_metrics, write_record


def made(
    folder: Path, accuracies: list[float | None], status: str = "finished", rule: str = "sbd", **settings: Any
) -> Path:
    """A run directory as `fit` leaves it, with accuracies of our choice."""
    folder.mkdir(parents=True)
    definition = load_model("digits-mlp", rule, {k.replace("__", "."): v for k, v in settings.items()})
    record = {"format": 1, "definition": definition.model_dump(mode="json"), "device": "cpu", "threads": 1}
    write_record(folder / "config.json", record)
    lines = [
        {"epoch": i + 1, "test_accuracy": a, "test_loss": None if a is None else 1 - a, "seconds": 1.0}
        for i, a in enumerate(accuracies)
    ]
    write_metrics(folder, lines)
    if status != "running":
        write_record(folder / "result.json", {"status": status, "seconds": float(len(lines)), "warnings": []})
    return folder


def test_groups_are_everything_but_the_seed_and_values_those_of_the_last_epoch(tmp_path: Path) -> None:
    """Must fail when the best epoch is taken, the seed splits a group, or std divides by n."""
    last = [0.90, 0.92, 0.97, 0.91]
    paths = [made(tmp_path / f"s{i}", [0.5, 0.99, a], seed=i) for i, a in enumerate(last)]
    paths += [made(tmp_path / f"d{i}", [0.5, 0.6, a], rule="dfa", seed=i) for i, a in enumerate((0.7, 0.8))]
    found = neurosbd.compare(paths, tmp_path / "out")
    assert [(row.label, row.group.rule) for row in found.rows] == [("sbd", "sbd"), ("dfa", "dfa")] and not found.keys
    sbd, dfa = (row.estimates["test accuracy"] for row in found.rows)
    assert sbd.n == 4 and sbd.mean == pytest.approx(np.mean(last)) and sbd.std == pytest.approx(np.std(last, ddof=1))
    assert np.all(np.diff(np.array([0.90, sbd.low, sbd.mean, sbd.high, 0.97], float)) > 0)
    assert dfa.n == 2 and dfa.low is None and "n < 3" in dfa.remark
    assert not found.warnings and "92.50 ± 3.11 [" in found.table and "75.00 ± 7.07 %" in found.table
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/comparison.csv").read_text())))
    assert float(rows[0]["mean"]) == sbd.mean and rows[0]["interval"] == "BCa" and len(rows) == 6
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [run["seed"] for run in content["groups"][0]["runs"]] == [0, 1, 2, 3]
    assert (tmp_path / "out/figure.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out/index.html").read_text()
    assert "data:image/" in page and "no interval: n &lt; 3 (dfa)" in page and "rule.neuromodulator.forgetting" in page


def test_only_keys_that_differ_are_shown(tmp_path: Path) -> None:
    """Must fail when a key that all share is a column, or one that follows from the rule is."""
    paths = [
        made(tmp_path / f"a{i}", [0.9], seed=i, rule__neuromodulator__forgetting=f) for i, f in enumerate((0.9, 0.99))
    ]
    paths += [made(tmp_path / "d", [0.8], rule="dfa"), made(tmp_path / "b", [0.8], rule="bp")]
    found = neurosbd.compare(paths, tmp_path / "out")
    assert found.keys == ("rule.neuromodulator.forgetting.start",) and len(found.rows) == 4
    assert found.table.splitlines()[0].split()[:4] == ["model", "rule", "rule.neuromodulator.forgetting.start", "n"]


def test_what_makes_a_comparison_unfair_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail when an unfinished run counts, or unlike epochs, data or seeds go unsaid."""
    paths = [
        made(tmp_path / "a", [0.9, 0.9], training__epochs=2),
        made(tmp_path / "again", [0.9, 0.9], training__epochs=2),
        made(tmp_path / "half", [0.1], "interrupted", training__epochs=2, seed=1),
        made(tmp_path / "now", [0.1], "running", training__epochs=2, seed=2),
        made(tmp_path / "long", [0.9], training__epochs=3, data__subset=5),
    ]
    assert main(["compare", *map(str, paths), str(paths[0]), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    for said in (
        "half: interrupted after 1 of 2 epochs; it is not counted",
        "now: killed after 1 of 2 epochs",
        "seed 0 is there more than once",
        "the groups differ in training.epochs (2, 3)",
        "the groups differ in data.subset (5, –)",
        "given more than once",
    ):
        assert said in told, said
    found = neurosbd.compare(paths, tmp_path / "out")
    assert [row.estimates["test accuracy"].n for row in found.rows] == [2, 1]
    assert "all values are the same" in neurosbd.compare(
        [paths[0], *(made(tmp_path / f"same{i}", [0.9, 0.9], training__epochs=2, seed=3 + i) for i in range(3))],
        tmp_path / "out",
    ).rows[0].estimates["test accuracy"].remark  # fmt: skip


def test_runs_without_values_are_compared_too(tmp_path: Path) -> None:
    """Empty metrics, null accuracies, only unfinished runs, protocols with measures instead of accuracies."""
    empty, nan = made(tmp_path / "empty", []), made(tmp_path / "nan", [0.5, None], rule="dfa")
    found = neurosbd.compare([empty, nan], tmp_path / "out")
    assert all("test accuracy" not in row.estimates for row in found.rows)
    assert neurosbd.compare([made(tmp_path / "now", [0.5], "running")], tmp_path / "out").rows[0].estimates == {}
    for i, value in enumerate((0.1, 0.2, 0.4)):
        path = made(tmp_path / f"p{i}", [], seed=i)
        write_record(path / "result.json", {"status": "finished", "measures": {"others_mean": value}})
    found = neurosbd.compare([tmp_path / f"p{i}" for i in range(3)], tmp_path / "out")
    assert found.rows[0].estimates["others mean"].mean == pytest.approx(0.7 / 3)


def test_hostile_names_and_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail when a name is not escaped in the page, or is mathematics to matplotlib."""
    paths = [made(tmp_path / "a", [0.9]), made(tmp_path / "b", [0.8])]
    config = json.loads((paths[0] / "config.json").read_text())
    config["definition"]["name"] = r"<script>$\frac$"
    (paths[0] / "config.json").write_text(json.dumps(config))
    neurosbd.compare(paths, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;$\\frac$" in page
    assert main(["compare", str(tmp_path), "--out", str(tmp_path / "none")]) == 2
    assert "holds no run" in capsys.readouterr().err and not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="nothing to compare"):
        neurosbd.compare([], tmp_path / "out")

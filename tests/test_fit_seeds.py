"""Many seeds of one training in one process: a folder of ordinary runs."""

import json
import signal
from pathlib import Path

import pytest
import torch

import neurosbd
from neurosbd.cli.main import main
from neurosbd.datasets import load
from neurosbd.errors import RunError, UsageError
from neurosbd.runs import batches
from neurosbd.runs.lock import take
from neurosbd.runs.loggers import Event, NullLogger
from neurosbd.runs.many_seeds import MOST, parse_seeds
from neurosbd.training.fit_seeds import fit_seeds
from tests.test_fit import FAST, StopAfter, same

ALONE = "fa"  # a rule whose seeds are trained one after another


def test_every_seed_leaves_what_its_single_run_leaves(tmp_path: Path) -> None:
    """Bit for bit: weights, optimizer, position, metrics, with a validation split that every seed draws for itself.

    Must fail if all seeds train on the split of the first (tried), or start from its weights (tried).
    """
    settings = FAST | {"data.validation": 0.2}
    runs = fit_seeds("digits-mlp", [3, 0], rule=ALONE, settings=settings, out=tmp_path / "all")
    assert [run.path.name for run in runs] == ["seed3", "seed0"]
    for seed, run in zip((3, 0), runs, strict=True):
        alone = neurosbd.fit("digits-mlp", rule=ALONE, seed=seed, settings=settings, out=tmp_path / f"alone{seed}")
        assert same(run.path, alone.path) and run.config["definition"] == alone.config["definition"]
        assert run.metrics[-1]["validation_loss"] == alone.metrics[-1]["validation_loss"]
        assert run.config["seeds"]["all"] == [3, 0] and "seeds" not in alone.config


def test_the_data_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an iterable, which can be gone through only once."""
    read: list[str] = []
    monkeypatch.setattr(batches, "load_data", lambda *a: read.append(a[0]) or load.load_data(*a))
    fit_seeds("digits-mlp", range(3), rule=ALONE, settings=FAST | {"training.epochs": 1}, out=tmp_path / "named")
    assert read == ["digits"]
    x, labels = torch.randn(60, 1, 8, 8), torch.arange(60) % 10
    shown = ((x[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40))
    runs = fit_seeds(
        "digits-mlp",
        range(2),
        data=(shown, (x, labels)),
        rule=ALONE,
        settings={"training.epochs": 1},
        out=tmp_path / "x",
    )
    assert len({run.config["definition"]["data"]["name"] for run in runs}) == 1


def test_ctrl_c_stops_all_and_resume_goes_on_with_all_or_with_one(tmp_path: Path) -> None:
    """Stopped in the second epoch of the second of three; the third has not begun."""
    whole = fit_seeds("digits-mlp", range(3), rule=ALONE, settings=FAST, out=tmp_path / "whole")
    out = tmp_path / "parts"
    found = fit_seeds("digits-mlp", range(3), rule=ALONE, settings=FAST, out=out, loggers=[StopAfter(60)])
    assert [run.result["status"] for run in found] == ["finished", "interrupted"]
    neurosbd.fit("digits-mlp", rule=ALONE, seed=1, settings=FAST, out=out / "seed1", resume=True)
    assert same(out / "seed1", tmp_path / "whole" / "seed1") and not (out / "seed2").exists()
    found = fit_seeds("digits-mlp", range(3), rule=ALONE, settings=FAST, out=out, resume=True)
    assert all(same(one.path, other.path) for one, other in zip(found, whole, strict=True))


class Failing(NullLogger):
    """Fails in the run of seed 1."""

    def on_start(self, event: Event) -> None:
        if event["seed"] == 1:
            raise ValueError("no more")


def test_a_seed_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1 of 3 seeds failed \(1\); seed 1: logger Failing .* no more.*all-three"):
        fit_seeds("digits-mlp", range(3), rule=ALONE, settings=FAST, out=tmp_path / "all-three", loggers=[Failing()])
    told = [json.loads((tmp_path / "all-three" / f"seed{n}" / "result.json").read_text()) for n in range(3)]
    assert [result["status"] for result in told] == ["finished", "failed", "finished"]


def test_a_seed_that_cannot_begin_does_not_either(tmp_path: Path) -> None:
    """Its directory is in use. Where the first cannot begin, the request is at fault and refused."""
    for seed, error, message in ((1, RunError, r"1 of 2 seeds failed \(1\).* is at work"), (0, UsageError, "at work")):
        (tmp_path / f"x{seed}" / f"seed{seed}").mkdir(parents=True)
        lock = take(tmp_path / f"x{seed}" / f"seed{seed}")
        with pytest.raises(error, match=message):
            fit_seeds("digits-mlp", range(2), rule=ALONE, settings=FAST, out=tmp_path / f"x{seed}")
        lock.release()


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "there are 0; legal are 1 to"),
        ([1, 2, 1], "1 is there twice"),
        ([-1], "got -1"),
        ([True], "got True"),
        ([2**63], "got 9223372036854775808"),
        (range(10**9), f"1,000,000,000 are too many at once; legal are up to {MOST:,}"),
        (5, r"whole numbers such as range\(32\) or \[1, 5, 9\], got 5"),
        ("0:3", "got '0:3'"),
    ],
)
def test_seeds_that_cannot_be(tmp_path: Path, seeds: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_seeds("digits-mlp", seeds, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_seeds_on_the_command_line() -> None:
    assert parse_seeds("0:3") == (0, 1, 2) and parse_seeds("7") == (7,) and parse_seeds("5,1") == (5, 1)
    for text in ("", "3:3", "4:1", "0:", "a", "1,", "0:2:2", "-1", "1 2", "\u0663"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)


def test_a_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "all" / "seed1").mkdir(parents=True)
    (tmp_path / "all" / "seed1" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="seed1: holds a run already"):
        fit_seeds("digits-mlp", range(2), settings=FAST, out=tmp_path / "all")
    assert not (tmp_path / "all" / "seed0").exists()
    with pytest.raises(UsageError, match="is the directory of a run itself"):
        fit_seeds("digits-mlp", range(2), settings=FAST, out=tmp_path / "all" / "seed1")
    with pytest.raises(UsageError, match="seed = 3 and seeds are both given"):
        fit_seeds("digits-mlp", range(2), settings={"seed": 3}, out=tmp_path / "new")
    with pytest.raises(UsageError, match="nowhere"):
        fit_seeds("digits-mlp", range(2), data="nowhere", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders are numbered; the last one goes on with --resume; `compare` takes the folder."""
    monkeypatch.chdir(tmp_path)
    line = ["fit", "digits-mlp", "--rule", ALONE, "--seeds", "0:2", "--set", "training.epochs=1"]
    line += ["--set", "data.subset=20"]
    assert main(line) == 0 == main(line)
    assert f"over 2 seeds; to see them side by side: neurosbd compare runs/digits-mlp-{ALONE}-seeds-2" in (
        capsys.readouterr().out
    )
    assert main([*line, "--resume"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        f"digits-mlp-{ALONE}-seeds", f"digits-mlp-{ALONE}-seeds-2"
    ]  # fmt: skip
    assert main(["compare", f"runs/digits-mlp-{ALONE}-seeds"]) == 0
    assert f"digits-mlp  {ALONE}    2" in capsys.readouterr().out
    assert main([*line, "--out", "no\0name"]) == 2
    monkeypatch.setattr("neurosbd.cli.main._loggers", lambda options: [StopAfter(9, signal.SIGTERM)])
    assert main([*line, "--out", "stopped"]) == 1
    assert "interrupted: 1 of 2 seeds are finished; everything is kept in stopped" in capsys.readouterr().err

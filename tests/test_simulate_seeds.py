"""Many seeds of one experiment, a task, a protocol or a free run: a folder of ordinary runs."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.errors import RunError, UsageError, UsageWarning
from neurosbd.experiments.simulate_seeds import simulate_seeds
from neurosbd.runs.interrupt import Interrupt
from neurosbd.runs.many_seeds import Seeds
from neurosbd.runs.run import Run
from tests.test_endings import CURSOR, When, hit
from tests.test_experiments import MEANT, SMALL
from tests.test_fit import same
from tests.test_free_runs import HEAD, NETWORK

pytestmark = pytest.mark.filterwarnings(MEANT)
WINDOW = {"protocol.longest": "20 ms", "protocol.every": "10 ms", "protocol.period": "50 ms"}
XOR = SMALL | {"task.duration": "20 ms"}


def _experiment(kind: str, folder: Path) -> tuple[str | Path, dict[str, Any]]:
    """A small task, protocol or free run with weights and noise that a seed decides."""
    path = folder / "own.toml"
    path.write_text(HEAD.format(duration="60 ms", more="") + NETWORK)
    return {"task": ("xor-delayed-reward", XOR), "protocol": ("bmi-cursor", CURSOR), "free run": (path, {})}[kind]


@pytest.mark.parametrize("kind", ["task", "protocol", "free run"])
def test_every_seed_leaves_what_its_single_run_leaves(kind: str, tmp_path: Path) -> None:
    """Bit for bit, also where it is not the first. Must fail when every seed draws what the first did (tried)."""
    experiment, settings = _experiment(kind, tmp_path)
    runs = simulate_seeds(experiment, [3, 0], settings=settings, out=tmp_path / "all")
    assert [run.path.name for run in runs] == ["seed3", "seed0"] and not same(runs[0].path, runs[1].path)
    for seed, run in zip((3, 0), runs, strict=True):
        alone = neurosbd.simulate(experiment, seed=seed, settings=settings, out=tmp_path / f"alone{seed}")
        assert same(run.path, alone.path) and run.config["definition"] == alone.config["definition"]
        assert run.result["measures"] == alone.result["measures"]
        assert run.result["warnings"] == alone.result["warnings"]
        assert run.config["seeds"]["all"] == [3, 0] and "seeds" not in alone.config


@pytest.mark.parametrize("kind", ["task", "protocol", "free run"])
def test_ctrl_c_stops_the_row_and_resume_goes_on_with_all(kind: str, tmp_path: Path) -> None:
    """Stopped in the second of three; the third has not begun."""
    experiment, settings = _experiment(kind, tmp_path)
    settings = settings | ({"training.epochs": 3} if kind == "task" else {})
    whole = simulate_seeds(experiment, range(3), settings=settings, out=tmp_path / "whole")

    class InSecond(When):
        def on_epoch(self, event: Any) -> None:
            if self.second:
                super().on_epoch(event)

        def on_start(self, event: Any) -> None:
            self.second = event["seed"] == 1

    out = tmp_path / "parts"
    found = simulate_seeds(experiment, range(3), settings=settings, out=out, loggers=[InSecond(2, hit)])
    assert [run.result["status"] for run in found] == ["finished", "interrupted"] and not (out / "seed2").exists()
    found = simulate_seeds(experiment, range(3), settings=settings, out=out, resume=True)
    assert [run.result["status"] for run in found] == ["finished"] * 3
    assert all(same(one.path, other.path) for one, other in zip(found, whole, strict=True))
    assert [run.result["measures"] for run in found] == [run.result["measures"] for run in whole]


def test_ctrl_c_while_a_later_seed_is_prepared_ends_the_row(tmp_path: Path) -> None:
    """Before the first it goes to who asked. Must fail when that of the second does, too (tried)."""
    done: list[int] = []

    def stopped_at(last: int) -> list[int]:
        interrupt = Interrupt()

        def one(seed: int) -> Run:
            interrupt.asked = seed == last
            interrupt.hold()
            done.append(seed)
            return Run(tmp_path, {}, [], {})

        done.clear()
        assert len(Seeds((0, 1, 2), tmp_path).runs(one, interrupt)) == len(done)
        return done

    assert stopped_at(1) == [0] and stopped_at(5) == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        stopped_at(0)


def test_a_seed_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    class Failing(When):
        def on_start(self, event: Any) -> None:
            if event["seed"] == 1:
                raise ValueError("no more")

    with pytest.raises(RunError, match=r"1 of 3 seeds failed \(1\); seed 1: logger Failing .* no more.*all-three"):
        simulate_seeds("stdp-window", range(3), settings=WINDOW, out=tmp_path / "all-three", loggers=[Failing(9, hit)])
    told = [json.loads((tmp_path / "all-three" / f"seed{n}" / "result.json").read_text()) for n in range(3)]
    assert [result["status"] for result in told] == ["finished", "failed", "finished"]


def test_warnings_of_the_file_are_in_the_result_of_every_seed(tmp_path: Path) -> None:
    """Said once, for it is read once. Must fail when they are collected for the first alone (tried)."""
    experiment, _ = _experiment("free run", tmp_path)
    settings = {"population.exc.neuron.tau_mem": 20}
    with pytest.warns(UsageWarning, match="tau_mem = 20 s is long") as seen:
        runs = simulate_seeds(experiment, range(2), settings=settings, out=tmp_path / "all")
    assert sum("is long" in str(each.message) for each in seen) == 1
    for run in runs:
        assert len(run.result["warnings"]) == 1 and "is long" in run.result["warnings"][0]


def test_the_command_says_mean_and_spread_and_compare_reads_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample standard deviation. Must fail for that of the population (tried)."""
    monkeypatch.chdir(tmp_path)
    changes = [word for key, value in CURSOR.items() for word in ("--set", f"{key}={value}")]
    assert main(["simulate", "bmi-cursor", "--seeds", "0:3", *changes]) == 0
    told = capsys.readouterr().out.splitlines()
    folder = Path("runs/bmi-cursor-rflo-seeds")
    measures = [json.loads((folder / f"seed{n}" / "result.json").read_text())["measures"] for n in range(3)]
    each = []
    for name in ("distance_before", "distance_after"):
        values = [found[name] for found in measures]
        each.append(f"{name} {statistics.fmean(values):.4g} +- {statistics.stdev(values):.2g}")
    said = f"mean over 3 seeds: {', '.join(each)}; to see them side by side: neurosbd compare {folder}"
    assert told[-1] == said
    assert any("cpu, seed 1 (2 of 3, one after another: each is an experiment of its own)" in line for line in told)
    assert main(["compare", str(folder)]) == 0
    assert "bmi-cursor  rflo  3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "2:1"], "goes from 2 up to, but without, 1"),
        (["--seeds", "two"], "is neither FIRST:END"),
        (["--seed", "1", "--seeds", "0:2"], "not allowed with argument --seed"),
        (["--seeds", "0:2", "--set", "seed=3"], "seed = 3 and seeds are both given"),
        (["--seeds", "0:2", "--device", "tpu"], "did you mean 'cpu'"),
        (["--seeds", "0:2", "--rule", "bp"], "sends rewards and no score"),
        (["--seeds", "0:2", "--record", "output.foo"], "there is no signal 'foo'"),
        (["--seeds", "0:2", "--log", "tensorbord"], "did you mean 'tensorboard'"),
    ],
)
def test_wrong_requests_leave_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["simulate", "stdp-window", *arguments, "--out", str(tmp_path / "runs")])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_folder_that_holds_runs_is_not_written_over(tmp_path: Path) -> None:
    simulate_seeds("stdp-window", range(2), settings=WINDOW, out=tmp_path / "all")
    with pytest.raises(UsageError, match="seed1: holds a run already; go on with --resume"):
        simulate_seeds("stdp-window", [1, 2], settings=WINDOW, out=tmp_path / "all")
    with pytest.raises(UsageError, match="is the directory of a run itself"):
        simulate_seeds("stdp-window", [1, 2], settings=WINDOW, out=tmp_path / "all" / "seed1")
    with pytest.raises(UsageError, match="train it with: neurosbd fit digits-mlp"):
        simulate_seeds("digits-mlp", [1, 2], out=tmp_path / "other")
    with pytest.raises(UsageError, match=r"it differs in protocol\.pairs"):
        simulate_seeds("stdp-window", [1], settings=WINDOW | {"protocol.pairs": 2}, out=tmp_path / "all", resume=True)

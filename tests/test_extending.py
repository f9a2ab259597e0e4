"""The files of docs/extending.md work as they stand there, by the commands beneath them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import neurosbd
from neurosbd.cli.main import main
from neurosbd.schema import plugins
from neurosbd.testing import __main__ as testing

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
FILES = {name: code for name, code in re.findall(r"```(?:python|toml)\n# (\w+\.\w+)\n(.*?)```", PAGE, re.S)}
COMMANDS = [shlex.split(line, comments=True)[1:] for line in re.findall(r"^neurosbd fit .*--plugin.*$", PAGE, re.M)]
PARTS = {
    "bcm.py": "rules/bcm",
    "alignment.py": "rules/alignment",
    "elu.py": "neurons/elu",
    "signs.py": "neuromodulators/signs",
    "regular.py": "encoders/regular",
    "log_cosh.py": "losses/log_cosh",
    "ring.py": "processes/ring",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files, alone; no part outlives its test."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(f"# {name}\n{code}")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for part in PARTS.values():
        plugins.remove(*part.split("/"))
    plugins._FILES.clear()


def test_the_page_has_a_file_for_each_of_its_sections() -> None:
    assert set(FILES) == {*PARTS, "ring.toml"} and len(COMMANDS) == 8


@pytest.mark.parametrize("name", PARTS)
def test_every_file_registers_its_part_and_keeps_its_contract(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert testing.main(["--plugin", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(PARTS[name]) and "keeps its contract" in out
    assert main(["show", PARTS[name]]) == 0 and "Source:" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::neurosbd.UsageWarning")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_trains(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Briefly, and the run opens with the part in it."""
    assert main([*command, "--set", "training.epochs=1", "--out", "run"]) == 0, capsys.readouterr().err
    run = neurosbd.open_run("run")
    assert run.result["status"] == "finished" and len(run.config["plugins"]) == 1
    assert run.network().eval() is not None


def test_bcm_learns_and_changes_the_hidden_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """Most digits are told apart, by a readout on features that the loss never reached."""
    command = ["fit", "digits-mlp", "--rule", "bcm", "--plugin", "bcm.py", "--out", "run", "--set", "training.epochs=5"]
    assert main(command) == 0, capsys.readouterr().err
    run = neurosbd.open_run("run")
    assert run.metrics[-1]["test_accuracy"] > 0.7
    first, last = run.definition.network().weights, run.network().weights
    assert all(not torch.equal(first[name], last[name]) for name in dict(first.items()))


def test_bcm_is_the_equation_above_it() -> None:
    """Autograd knows nothing of it: by hand, on one batch. Must fail with the other sign (tried)."""
    plugins.load_file("bcm.py")
    from neurosbd.testing.networks import mlp

    network, x = mlp([4, 3, 2]), torch.randn(5, 4, dtype=torch.float64)
    learner = neurosbd.learner(network, "bcm", seed=0)
    learner.learn(neurosbd.Batch(x[None], torch.tensor([0, 1, 0, 1, 0])))
    with torch.no_grad():
        y = torch.tanh(x @ network.weights["input->hidden1"].t() + network.biases["input->hidden1"])
        change = torch.einsum("bi,bj->ij", y * (y - y.square().mean(0)), x) / 5
    gradient = network.weights["input->hidden1"].grad
    assert gradient is not None
    torch.testing.assert_close(-gradient, change)

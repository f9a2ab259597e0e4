"""A loss of one's own, from Python and from a file: learned, named, refused, and never executed by opening a run."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import neurosbd
from neurosbd.cli.main import main
from neurosbd.errors import UsageError
from neurosbd.losses import LOSSES, CustomLoss, from_function, register

FAST = {"training.epochs": 2, "data.subset": 20}
FILE = """
import torch

def loss(output, target):
    return torch.nn.functional.cross_entropy(output, target, reduction="none")
"""


def entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="none")


def test_it_learns_what_the_same_loss_of_the_table_learns(tmp_path: Path) -> None:
    """As a function, as a loss, as a file. Must fail if another loss is learned (tried: a tenth of it)."""
    (tmp_path / "mine.py").write_text(FILE)
    reference = neurosbd.fit("digits-mlp", settings=FAST, out=tmp_path / "reference")
    for number, loss in enumerate((entropy, LOSSES["cross_entropy"](), tmp_path / "mine.py", "cross_entropy")):
        run = neurosbd.fit("digits-mlp", loss=loss, settings=FAST, out=tmp_path / str(number))
        for key in ("train_loss", "test_loss"):
            assert run.metrics[-1][key] == pytest.approx(reference.metrics[-1][key], rel=1e-4)
    assert neurosbd.open_run(tmp_path / "0").config["definition"]["loss"] == {"kind": "custom", "name": "entropy"}


@pytest.mark.parametrize("rule", ["sbd", "sbp", "dfa", "bp"])
def test_values_are_judged_by_the_loss_itself(tmp_path: Path, rule: str) -> None:
    def cubic(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs().pow(3).sum(1)

    one = {"population.output.size": [1], "training.epochs": 3}
    run = neurosbd.fit("diabetes-mlp", rule=rule, loss=cubic, settings=one, out=tmp_path / "run")
    losses = [line["test_loss"] for line in run.metrics]
    assert run.result["best"]["test_loss"] == min(losses) and losses[-1] < losses[0]


def test_the_command_line_takes_a_file_and_resumes_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    fit = ["fit", "digits-mlp", "--loss", str(tmp_path / "mine.py"), "--out", str(tmp_path / "run")]
    fit += ["--set", "data.subset=20", "--set", "training.epochs=1"]
    assert main(fit) == 0 and "loss mine," in capsys.readouterr().out
    assert main([*fit, "--resume"]) == 0 and "nothing is left to do" in capsys.readouterr().out
    assert main([*fit[:2], *fit[4:], "--resume"]) == 2
    assert "differs in loss.kind (custom there" in capsys.readouterr().err


def test_opening_a_run_executes_nothing(tmp_path: Path) -> None:
    """Its weights are there without the loss; what needs the loss says how to give it."""
    run = neurosbd.fit("digits-mlp", loss=entropy, settings=FAST, out=tmp_path / "run")
    config = (run.path / "config.json").read_text()
    (run.path / "config.json").write_text(config.replace('"entropy"', '"elsewhere"'))
    opened = neurosbd.open_run(run.path)
    assert opened.network()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(UsageError, match=r"loss 'elsewhere' is one of a user's own.*--loss elsewhere.py.*loss=..."):
        opened.definition.loss.build().per_example(torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("los = 1", "has no 'loss'"),
        ("loss = 1", "'loss' is a int; give a function"),
        ("def loss(output, target", "SyntaxError"),
        ("import not_there", "ModuleNotFoundError"),
        ("def loss(z, y): return (z - y).square().sum(1)", r"failed for an output \[11, 10\] and a target \[11\]"),
        ("def loss(z, y): return z.mean()", r"gave \[\] for an output \[11, 10\]; it must give \[11\]"),
        ("def loss(z, y): raise KeyError('oh')", "KeyError: 'oh'"),
    ],
)
def test_what_is_no_loss_is_refused_before_anything_is_written(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", loss=tmp_path / "mine.py", settings=FAST, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_keeps_what_it_says_of_its_targets() -> None:
    register("counts", from_function(lambda z, y: (z.exp() - y * z).sum(1), "counts", parameters=2))
    assert CustomLoss("counts").targets.name == "counts" and CustomLoss("counts").parameters == 2
    register("counts", lambda z, y: (z - y).square().sum(1))
    assert CustomLoss("counts").targets.name == "reals" and CustomLoss("counts").parameters == 1
    assert neurosbd.admissible(CustomLoss("counts"))


def test_a_run_of_before_is_told_the_word_of_today(tmp_path: Path) -> None:
    """Must fail when it is an unknown loss like any other (tried)."""
    run = neurosbd.fit("digits-mlp", loss=entropy, settings=FAST, out=tmp_path / "run")
    config = run.path / "config.json"
    config.write_text(config.read_text().replace('"kind": "custom"', '"kind": "own"'))
    with pytest.raises(UsageError, match=r"loss: 'own' is called 'custom' now"):
        _ = neurosbd.open_run(run.path).definition

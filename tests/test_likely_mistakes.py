"""What a newcomer is likely to get wrong is said with the fix, in the words of where it was asked for."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.cli.catalogue import _about
from neurosbd.cli.main import main
from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.files.library import find, names
from neurosbd.schema.constants import TimeConstant, constants

FEW = {"training.epochs": 1}
X = np.random.default_rng(0).random((200, 1, 8, 8), np.float32)
Y = np.random.default_rng(1).permutation(np.arange(200) % 10)


# Rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", names("models"))
def test_both_names_of_backprop_train_alike(model: str) -> None:
    """Whichever of them a model has a table for. Must fail when it has to be there by that very name (tried)."""
    one, two = (neurosbd.load_model(model, rule).model_dump(exclude={"rule"}) for rule in ("bp", "bptt"))
    assert one == two


def test_a_table_of_its_own_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(find("models", "digits-mlp").read_text() + "\n[override.bptt]\ntraining.epochs = 7\n")
    assert neurosbd.load_model(path, "bptt").training.epochs == 7
    assert neurosbd.load_model(path, "bp").training.epochs != 7


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("corinfomax", r"no connection names such a compartment, so it learns as 'ebd'; .*digits-corinfomax"),
        ("stdp", r"pairs spikes, but 'hidden1', 'hidden2' send rates.*population\.hidden1\.neuron = 'lif'"),
        ("rstdp", r"pairs spikes, but 'hidden1', 'hidden2' send rates"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*states by how much a weight changes")
def test_a_rule_that_finds_nothing_to_learn_from_is_said(rule: str, message: str, tmp_path: Path) -> None:
    """Must fail when the network is not looked at (tried)."""
    with pytest.warns(neurosbd.UsageWarning, match=message):
        neurosbd.fit("digits-mlp", rule=rule, settings=FEW | {"data.subset": 10}, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "rule", "changes", "message"),
    [
        ("mnist-stdp-features", "wta_stdp", {}, "nothing learns from it: rule 'wta_stdp' hears no loss"),
        ("digits-snn", "stdp", {"rule.readout": "rule"}, "rule 'stdp' hears no loss; .*'sbd'"),
        ("digits-snn", "stdp", {"connection.2.plastic": False}, "'stdp' only 'output' could, which is not plastic"),
        ("digits-snn", "rstdp", {"rule.readout": "rule"}, "loss 'brier' judges answers, but nothing learns from it"),
    ],
)
def test_a_loss_from_which_nothing_learns_is_said(model: str, rule: str, changes: Any, message: str) -> None:
    """Where somebody asks for one; a file names that by which it is judged. Must fail when the rule alone is asked, or
    only the connections (tried, both)."""
    with pytest.warns(neurosbd.UsageWarning, match=message):
        neurosbd.load_model(model, rule=rule, settings={"loss": "brier", **changes})
    neurosbd.load_model(model, rule=rule, settings=changes)
    for heard in ({"rule": "stdp"}, {"rule": "dfa"}):  # whose readout descends it
        neurosbd.load_model("digits-snn", settings={"loss": "brier", **heard})


@pytest.mark.parametrize(("model", "rule"), [("digits-corinfomax", "corinfomax"), ("digits-snn", "rstdp")])
@pytest.mark.filterwarnings("ignore:.*states by how much a weight changes")
def test_a_rule_that_finds_it_is_not(model: str, rule: str, tmp_path: Path) -> None:
    settings = FEW | {"data.subset": 10, "data.test_subset": 10}
    neurosbd.fit(model, rule=rule, settings=settings, out=tmp_path / "run")  # a warning would be an error


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "loss"),
    [(Y[:, None], None), (Y.astype(np.float32), None), (Y[:, None], "squared_error")],
)
def test_labels_in_another_shape_are_told_apart(labels: Any, loss: str | None, tmp_path: Path) -> None:
    """Integers [N, 1], floats, and a loss that takes both. Must fail when only the loss is asked (tried)."""
    message = r"10 different whole numbers, 0 to 9: if they are labels, give integers \[N\], such as y\.astype"
    with pytest.raises(neurosbd.UsageError, match=message):
        neurosbd.fit("digits-mlp", data=(X, labels), loss=loss, settings=FEW, out=tmp_path / "run")


def test_one_hot_rows_are_told_from_values(tmp_path: Path) -> None:
    """Must fail when only single columns are looked at (tried); two 1s in a row mark no class."""
    rows = np.eye(10, dtype=np.float32)[Y]
    with pytest.raises(neurosbd.UsageError, match=r"a single 1 among 0s: .*give labels \[N\], such as y\.argmax\(1\)"):
        neurosbd.fit("digits-mlp", data=(X, rows), settings=FEW, out=tmp_path / "run")
    rows[0] = 1
    with pytest.raises(neurosbd.UsageError, match="values to predict") as refusal:
        neurosbd.fit("digits-mlp", data=(X, rows), settings=FEW, out=tmp_path / "run")
    assert "argmax" not in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y.astype(str)), r"words as numbers: numpy\.unique\(y, return_inverse=True\)\[1\]"),
        ([*zip(X, Y, strict=True)], r"batch 0 is one example, x \[1, 8, 8\] .*DataLoader\(data, batch_size=100\)"),
        ((X.reshape(len(X), 64), Y), r"examples are \[64\], .* give x\.reshape\(-1, 1, 8, 8\)"),
    ],
)
def test_data_in_another_form_are_refused_with_the_call_that_makes_them_fit(
    data: Any, message: str, tmp_path: Path
) -> None:
    """Must fail when it only says what is wrong (tried, on the version before)."""
    with pytest.raises(neurosbd.UsageError, match=message):
        neurosbd.fit("digits-mlp", data=data, settings=FEW, out=tmp_path / "run")


def test_values_that_are_no_labels_are_not(tmp_path: Path) -> None:
    with pytest.raises(neurosbd.UsageError, match="values to predict") as refusal:
        neurosbd.fit("digits-mlp", data=(X, Y + 0.5), settings=FEW, out=tmp_path / "run")
    assert "labels," not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:.*no test example")
def test_a_stray_label_is_counted(tmp_path: Path) -> None:
    """Must fail when the classes are only counted, not their examples (tried)."""
    labels = np.where(np.arange(200) == 3, 10, Y)
    with pytest.raises(neurosbd.UsageError, match=r"has 11 classes; .*Of 200 examples class '10' has 1: if that label"):
        neurosbd.fit("digits-mlp", data=(X, labels), settings=FEW, out=tmp_path / "run")


# Words of the command line and of Python ----------------------------------------------------------


def test_python_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(
        neurosbd.UsageError, match=r"in Python resume=True\) or choose another --out \(in Python out=\)"
    ):
        neurosbd.fit("digits-mlp", settings=FEW, out=tmp_path / "run")


@pytest.mark.parametrize("arguments", [["--rule", "zzzzzz"], ["--set", "population.hidden1.neuron=zzzzzz"]])
def test_an_unknown_part_may_be_that_of_a_plugin(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Where no name is near. Must fail when only rules are (tried)."""
    assert main(["fit", "digits-mlp", *arguments]) == 2
    assert "one of your own needs its file: --plugin FILE.py" in capsys.readouterr().err
    assert main(["fit", "digits-mlp", "--rule", "sdb"]) == 2
    assert "plugin" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nosuch"], "there is nothing called 'nosuch'; legal: "),
        (["show", "short_terms"], "'short_terms' is a kind of items; `neurosbd list short_terms` names them"),
        (["show", "short_term"], "there is nothing called 'short_term'; did you mean 'short_terms'? Legal: "),
        (["show", "short_term/tsodyks_markram"], "there is no kind 'short_term'; did you mean 'short_terms'?"),
        (["show", "short_terms/tsodyks"], "no 'tsodyks' among short_terms; did you mean 'tsodyks_markram'?"),
        (
            ["fit", "diabetes-mlp", "--rule", "corinfomax"],
            "rule 'corinfomax' is that of loss 'squared_error', which needs 1 output for the 1 value to predict",
        ),
        (
            ["simulate", "inhibitory-balance", "--record", "inh.drive"],
            "'inh' is reached by conductances, .*; record what each connection gives it: 'exc->inh.current'",
        ),
        (["simulate", "inhibitory-balance", "--record", "*.drive"], "every population is reached by conductances"),
    ],
)
def test_what_is_refused_is_said_with_its_reason(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of kinds, a loss that is the rule's, a drive that conductances leave none of. Must fail when `show` knows
    items alone, the loss is not looked at, or the conductances are not (tried)."""
    assert main(arguments) == 2
    assert re.search(said.replace("?", r"\?"), capsys.readouterr().err)


def test_an_unknown_table_of_a_setting_is_that_of_the_setting() -> None:
    """Not of the model file. Must fail when only the places above a key are looked at (tried)."""
    with pytest.raises(neurosbd.UsageError, match=r"^setting: rule\.neuromodulater: unknown key"):
        neurosbd.load_model("digits-mlp", settings={"rule.neuromodulater.scale": 1})


def test_ctrl_c_while_the_command_is_imported_is_a_line(tmp_path: Path) -> None:
    """As later: exit status 1, no traceback. Must fail when the import is not watched (tried)."""
    code = (
        "import sys, builtins\n"
        "def interrupted(name, *rest, real=builtins.__import__):\n"
        "    if name == 'neurosbd.cli.arguments':\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from neurosbd.__main__ import run\n"
        "sys.exit(run())\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 1 and answer.stderr == "neurosbd: stopped\n"


def test_an_override_changes_an_entry_of_a_list_by_its_number(tmp_path: Path) -> None:
    """As a setting does, and keeps the rest of it. Must fail when the list is replaced by a table (tried: refused)."""
    path, text = tmp_path / "model.toml", find("models", "digits-mlp").read_text()
    path.write_text(f"{text}\n[override.dfa]\nconnection.0.sparsity = 0.5\n")
    one, other = (load_model(str(path), rule).connection[0] for rule in ("dfa", "sbd"))
    assert one.sparsity == 0.5 and other.sparsity == 0 and one.pre == other.pre  # type: ignore[attr-defined]
    for change, said in (
        ("connection.9.sparsity = 0.5", "'9' must be a number in 0.."),
        ("connection.0 = 3", "a table"),
    ):
        path.write_text(f"{text}\n[override.dfa]\n{change}\n")
        with pytest.raises(UsageError, match=said):
            load_model(str(path), "dfa")


def test_a_part_without_a_docstring_is_listed_without_the_types_of_its_constants() -> None:
    """Python writes a dataclass one of its own. Must fail when that is shown (tried: 'typing.Annotated[...')."""

    @constants
    class Silent:
        tau: TimeConstant = 0.1

    assert _about(Silent) == "(says nothing of itself: it has no docstring)"

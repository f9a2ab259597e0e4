"""The command line as a user meets it: help, lists, and every wrong input one screen and exit 2."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosbd.cli.catalogue import LIBRARY
from neurosbd.cli.main import main
from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError, warn
from neurosbd.files.library import find, names
from neurosbd.losses import LOSSES, from_function
from neurosbd.rules import RULES
from neurosbd.tables import TABLES


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(arguments)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def test_help_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys; from neurosbd.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: assert 'torch' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0 and "fit digits-mlp" in answer.stdout, answer.stderr


@pytest.mark.parametrize("kind", [*LIBRARY, *TABLES])
def test_lists(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    status, out, _ = told(capsys, "list", kind)
    assert status == 0 and (out.count("source:") >= 1 or kind == "activations")


def test_a_list_of_nothing_names_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail when a table is left out of it (tried)."""
    status, out, _ = told(capsys, "list")
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == [*LIBRARY, *TABLES]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_every_item_is_shown_by_kind_and_name(capsys: pytest.CaptureFixture[str], kind: str, name: str) -> None:
    status, out, err = told(capsys, "show", f"{kind}/{name}")
    assert status == 0 and out.startswith(f"{name} ({kind})") and not err


def test_a_name_of_several_lists_is_shown_with_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = told(capsys, "show", "constant")
    assert "'constant' stands in 3 lists: initialisers/constant, encoders/constant, schedules/constant" in out
    assert all(f"constant ({kind})" in out for kind in ("initialisers", "encoders", "schedules"))


def test_losses_are_listed_with_what_the_check_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one by itself. Must fail if the verdict is taken for granted (tried here, with a loss that is none)."""
    _, out, _ = told(capsys, "list", "losses")
    assert out.count("; admissible: |E s| =") == len(LOSSES)
    monkeypatch.setitem(LOSSES, "brier", lambda: from_function(lambda z, y: z.sum(1), "classes"))
    _, out, _ = told(capsys, "list", "losses")
    assert out.count("not admissible") == 1


SMALL = [name for name in names("models") if name != "brunel-network"]  # whose synapses take seconds to draw


@pytest.mark.parametrize("name", [*SMALL, *names("data"), "sbd", "relu", "cross_entropy"])
def test_show(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, err = told(capsys, "show", name)
    assert status == 0 and out and not err


def test_show_says_where_each_value_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = told(capsys, "show", "digits-mlp", "--rule", "bp", "--set", "training.epochs=7")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines["training.epochs"].endswith("setting") and " 7 " in lines["training.epochs"]
    assert lines["training.rates.output"].endswith("digits-mlp.toml [override.bp]")
    assert lines["rule.kind"].endswith("chosen rule")
    assert lines["training.batch_size"].endswith("digits-mlp.toml") and lines["time.dt"].endswith("default")


ALIKE = (  # free runs
    "bcm-orientation", "clopath-pairing", "diehl-cook", "inhibitory-balance", "sjostrom-pairing", "tsodyks-trains",
)  # fmt: skip
PAIRS = [(model, rule) for model in SMALL for rule in RULES if model not in ALIKE or rule in ("stdp", "bp")]


@pytest.mark.parametrize(("model", "rule"), PAIRS)
def test_every_model_resolves_under_every_rule(model: str, rule: str) -> None:
    definition = load_model(model, rule)
    assert definition.rule.kind == rule and definition.about and definition.source
    network = definition.network()
    assert network.readout == ("output" if definition.simulation is None else list(network.populations)[-1])
    assert load_model(model, rule, {"seed": 3}).seed == 3


def test_model_headers_say_what_to_expect() -> None:
    for name in names("models"):
        header = find("models", name).read_text().split("\nabout")[0]
        for word in ("Source:", "Expected:", "Hardware:"):
            assert word in header, f"models/{name}.toml: no '{word}' in the header"


BAD = [
    (["fit", "digit-mlp"], "did you mean 'digits-mlp'"),
    (["fit", "digits-mlp", "--rule", "sdb"], "did you mean 'sbd'"),
    (["fit", "digits-mlp", "--set", "training.epoch=3"], "did you mean 'epochs'"),
    (["fit", "digits-mlp", "--set", "training.epochs=x"], "training.epochs: input should be a valid integer"),
    (["fit", "digits-mlp", "--set", "training.epochs=1.5"], "valid integer"),
    (["fit", "digits-mlp", "--set", "training.epochs=true"], "valid integer"),
    (
        ["fit", "digits-mlp", "--set", "training.optimizer.lr=-1.0"],
        "optimizer.lr: must be in 0..1000000, got -1.0",
    ),
    (["fit", "digits-mlp", "--set", "training.optimizer.lr=inf"], "finite number"),
    (["fit", "digits-mlp", "--set", "training.optimizer.lr=nan"], "finite number"),
    (["fit", "digits-mlp", "--set", "training.optimizer=adm"], "did you mean 'adam'"),
    (["fit", "digits-mlp", "--set", "population.hidden1.neuron=rellu"], "did you mean 'relu'"),
    (["fit", "digits-mlp", "--set", "training.rates.outptu=3.0"], "did you mean 'output'"),
    (["fit", "digits-mlp", "--set", "population.hidden1.size=[0]"], "population.hidden1.size.0"),
    (["fit", "digits-mlp", "--set", "population.output.size=[7]"], "has 10 classes; set population.output.size = [10]"),
    (["fit", "cifar10-small", "--data", "digits"], "the examples of 'digits' are [1, 8, 8]"),
    (["fit", "digits-mlp", "--data", "digitss"], "did you mean 'digits'"),
    (["fit", "digits-mlp", "--data", "nowhere/at/all.toml"], "there is no such file"),
    (["fit", "digits-mlp", "--set", "data.subset=4000"], "class 8 has 140 examples"),
    (["fit", "digits-mlp", "--set", "data.crop=9"], "data.crop is 9, but images are 8x8"),
    (["fit", "digits-mlp", "--set", "epochs"], "write --set key=value"),
    (["fit", "digits-mlp", "--seed", "-1"], "seed: must be in 0..9223372036854775807, got -1"),
    (["fit", "digits-mlp", "--device", "cuda"], "sees no CUDA device"),
    (["fit", "digits-mlp", "--device", "gpu"], "there is no device 'gpu'"),
    (["fit", "digits-mlp", "--out", "a\0b"], "a path has no null byte in it; give one without"),
    (["fit", "digits-mlp", "--out", ""], "'': an empty text is no path; give one, '.' for the folder you are in"),
    (["fit", "digits-mlp", "--data", ""], "'': an empty text is no path; give one, '.' for the folder you are in"),
    (["fit", "digits-mlp", "--out", "a" * 300], "too long for a path; legal are 255 bytes per name"),
    (["fit", "digits-mlp", "--device", "cuda:x"], "there is no device 'cuda:x'"),
    (["fit", "no/such/model.toml"], "there is no such file"),
    (["fitt", "digits-mlp"], "did you mean 'fit'"),
    (["list", "model"], "did you mean 'models'"),
    (["list", "projections"], "'projections' are called 'layouts' now"),
    (["show", "projections/grid"], "'projections' are called 'layouts' now"),
    (["show", "digits-mpl"], "did you mean 'digits-mlp'"),
    (["fit"], "required: MODEL"),
    (["fit", "digits-mlp", "--sead", "3"], "fit: there is no option --sead; did you mean '--seed'?"),
    (["fit", "digits-mlp", "--rul", "bp"], "fit: there is no option --rul; did you mean '--rule'?"),
    (["analyse", "run", "--sead=3"], "analyse: there is no option --sead"),
    (["data", "get", "digits"], "needs no download"),
    (["data", "check", "mnist", "--data", "/nowhere"], "there is no such file or folder"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda a: " ".join(a) if isinstance(a, list) else "")
def test_wrong_input_is_one_screen_and_exit_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.chdir(tmp_path)
    status, _, err = told(capsys, *arguments)
    assert status == 2 and message in err, err
    assert "Traceback" not in err and len(err.splitlines()) <= 24
    assert not list(tmp_path.iterdir())  # nothing was written


def test_all_errors_of_a_file_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "mine.toml"
    model.write_text(
        'seed = "x"\nfoo = 1\n[training]\nepochs = 0\n[population]\ninput = { size = [1, 8, 8] }\n'
        'output = { size = [10], neuron = "rellu" }\n[[connection]]\npre = "input"\npost = "output"\nkind = "dens"\n'
    )
    status, _, err = told(capsys, "fit", str(model))
    assert status == 2
    for line in ("mine.toml: seed:", "mine.toml: foo: unknown key", "training.epochs:", "'relu'", "'dense'"):
        assert line in err, err


ODD = [
    "", "population = 3", "population = {}", "connection = 'x'", "rule = 3", "rule = []", "override = 5",
    "override.bp = 5", "override.xx = {}", "loss = 3", "training = 'no'", "data = []", "[population]\ninput = 5",
    "[population]\ninput = { size = [4] }\n", "[population]\nhidden = { size = [4], neuron = 'relu' }",
    "[population]\ninput = { size = [4] }\noutput = { size = [2] }\n[[connection]]\npre = 'input'\npost = 'output'\n"
    "kind = 'dense'", "[population]\ninput = { size = [1, 8, 8] }\noutput = { size = [10], neuron = 'identity' }",
    "[[connection]]\nkind = 'conv2d'\nkernel = 99999999999999999999", "seed = 1e400", "name = 5",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize(
    "extra", [[], ["--rule", "bp"], ["--set", "training.optimizer.lr=0.1"], ["--set", "rule.neuromodulator.scale=1.0"]]
)
def test_odd_model_files_never_give_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, extra: list[str]
) -> None:
    (tmp_path / "m.toml").write_text(text if "connection" in text else f"connection = []\n{text}")
    status, _, err = told(capsys, "fit", str(tmp_path / "m.toml"), *extra, "--out", str(tmp_path / "run"))
    assert status == 2 and err.startswith("neurosbd: ") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "result.json"])
def test_a_damaged_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    line = [
        "fit",
        "digits-mlp",
        "--set",
        "training.epochs=1",
        "--set",
        "data.subset=20",
        "--out",
        str(tmp_path / "run"),
    ]
    assert told(capsys, *line)[0] == 0
    (tmp_path / "run" / name).write_text("{ damaged")
    status, _, err = told(capsys, *line, "--resume")
    assert status == 2 and name in err


def test_broken_toml_says_the_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "mine.toml"
    model.write_text("seed = 1\nseed = 2\n")
    status, _, err = told(capsys, "fit", str(model))
    assert status == 2 and "not valid TOML" in err and "line 2" in err


def test_nan_in_the_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(
        path, train_values=np.full((4, 64), np.nan), train_labels=[0, 1, 0, 1],
        test_values=np.ones((2, 64)), test_labels=[0, 1],
    )  # fmt: skip
    status, _, err = told(capsys, "fit", "digits-mlp", "--data", str(path), "--out", str(tmp_path / "run"))
    assert status == 2 and "4 of 4 examples hold NaN" in err and not (tmp_path / "run").exists()


def test_a_users_own_model_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    values = rng.normal(size=(400, 6)) + 3 * labels[:, None]
    np.savez(
        tmp_path / "d.npz",
        train_values=values[:300],
        train_labels=labels[:300],
        test_values=values[300:],
        test_labels=labels[300:],
    )
    (tmp_path / "m.toml").write_text(
        "[population]\ninput = { size = [6] }\nhidden = { size = [8], neuron = 'tanh' }\n"
        "output = { size = [2], neuron = 'identity' }\n"
        "[[connection]]\npre = 'input'\npost = 'hidden'\nkind = 'dense'\n"
        "[[connection]]\npre = 'hidden'\npost = 'output'\nkind = 'dense'\n"
    )
    status, out, err = told(
        capsys, "fit", str(tmp_path / "m.toml"), "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "r")
    )
    assert status == 0, err
    assert float(out.split("test accuracy ")[1].split("%")[0]) > 95


def test_a_warning_is_one_line_and_no_place_in_the_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(kind: str) -> list[object]:
        warn("a is 3; give a = 4 if that is meant")
        raise UsageError("over")

    monkeypatch.setattr("neurosbd.cli.catalogue.catalogue", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = told(capsys, "list", "models")
    assert status == 2 and err == "neurosbd: warning: a is 3; give a = 4 if that is meant\nneurosbd: over\n"

"""Parts of a user's own: what is registered is as good as shipped, what breaks its contract is refused."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.cli.main import main
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.neuromodulators import FixedRandom
from neurosbd.neurons import NEURONS, ReLU
from neurosbd.rules import RULES, LocalRule
from neurosbd.rules.broadcast import dfa
from neurosbd.schema import plugins
from neurosbd.tables import CLOSED, CONTRACTS, TABLES
from neurosbd.training.session import Session

LOUD = """
from dataclasses import dataclass
import neurosbd
from neurosbd.neurons import ReLU
from neurosbd.neuromodulators import FixedRandom
from neurosbd.rules.broadcast import dfa

@dataclass(frozen=True)
class Loud(ReLU):
    '''Twice what a rectifier says.

    Source: a test.
    '''
    volume: float = 2.0

def quiet(scale: float = 0.5):
    '''DFA with a strong projection.

    Source: a test.
    '''
    return dfa(neuromodulator=FixedRandom(scale=scale))

neurosbd.register("neurons", "loud", Loud)
neurosbd.register("rules", "quiet", quiet)
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No part outlives its test."""
    before = {kind: dict(table) for kind, table in TABLES.items()}
    yield
    for kind, table in TABLES.items():
        for name in set(table) - set(before[kind]):
            plugins.remove(kind, name)
        assert dict(table) == before[kind]
    plugins._FILES.clear()


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    path = tmp_path / "parts.py"
    path.write_text(LOUD)
    return path


@dataclass(frozen=True)
class Mine(ReLU):
    """A rectifier of one's own."""


# Registration -------------------------------------------------------------------------------------


def test_a_part_registered_late_is_legal_in_model_files() -> None:
    """After the definition was made and used. Must fail when the schema reads its tables at import (tried)."""
    setting = {"population.hidden1.neuron": {"kind": "mine"}}
    with pytest.raises(UsageError, match="there is no 'mine'"):
        neurosbd.load_model("digits-mlp", settings=setting)
    neurosbd.register("neurons", "mine", Mine)
    definition = neurosbd.load_model("digits-mlp", settings=setting)
    assert type(definition.network().populations["hidden1"].neuron) is Mine
    assert definition.model_dump(mode="json")["population"]["hidden1"]["neuron"]["kind"] == "mine"


def test_what_is_wrong_with_a_registered_part_is_said_as_of_a_shipped_one() -> None:
    def mine(scale: float = 0.1) -> Any:
        """DFA."""
        return dfa(neuromodulator=FixedRandom(scale=scale))

    neurosbd.register("rules", "mine", mine)
    for settings, message in (
        ({"rule.scal": 1.0}, r"rule\.scal: unknown key; did you mean 'scale'"),
        ({"rule.scale": "big"}, r"rule\.scale: .* got 'big'"),
        ({"rule.scale": -1.0}, r"rule: .*scale"),
    ):
        with pytest.raises(UsageError, match=message):
            neurosbd.load_model("digits-mlp", rule="mine", settings=settings)
    assert neurosbd.load_model("digits-mlp", rule="mine", settings={"rule.scale": 0.3}).rule.kind == "mine"


class Bare:
    """Nothing of a neuron."""


@dataclass(frozen=True)
class Short(ReLU):
    """A step without dt."""

    def step(self, state: Any, drive: Tensor) -> Any:  # type: ignore[override]
        return drive, state


@dataclass(frozen=True)
class Required(ReLU):
    """A constant without a default."""

    slope: float = None  # type: ignore[assignment]

    def __init__(self, slope: float) -> None: ...


@dataclass(frozen=True)
class Strange(ReLU):
    """A constant that no file can hold."""

    partner: Bare = Bare()  # noqa: RUF009


@dataclass(frozen=True)
class Kind(ReLU):
    """A constant whose name a model file uses for something else."""

    kind: float = 1.0


@dataclass(frozen=True)
class Delayed(Dense):
    """The same, of a connection."""

    delay: int = 1


class Untyped(ReLU):
    """A constant without a type."""

    def __init__(self, slope=1.0) -> None: ...  # type: ignore[no-untyped-def]


def bare() -> LocalRule:
    return LocalRule(Bare(), None)  # type: ignore[arg-type]


class Declaring(Protocol):
    """A contract with something to declare."""

    modest: ClassVar[bool]


def broken(scale: float = -1.0) -> Any:
    return dfa(neuromodulator=FixedRandom(scale=scale))


REFUSED: list[tuple[Any, Any, Any, str]] = [
    ("neuron", "mine", Mine, r"there is no kind 'neuron'; did you mean 'neurons'"),
    ("projections", "mine", Mine, "'projections' are called 'layouts' now"),
    ("neurons", "relu", Mine, "neurons/relu: the name is taken; choose another"),
    ("losses", "custom", Mine, "losses/custom: the name is taken"),
    ("neurons", "My Neuron", Mine, "neurons/My Neuron.*a name is lower case letters, digits and _"),
    ("neurons", "", Mine, "a name is lower case letters"),
    ("neurons", 3, Mine, "a name is lower case letters"),
    ("neurons", "../x", Mine, "a name is lower case letters"),
    ("eligibilities", "mine", Mine, "eligibilities are not open to parts of your own"),
    ("measures", "mine", Mine, "follows from its loss"),
    ("neurons", "mine", 3, "neurons/mine: must be a class or a function that makes it, got int"),
    ("neurons", "mine", Bare, r"neurons/mine: has no method 'init'; the contract is Neuron in neurosbd/neurons/neuron"),
    ("neurons", "mine", Short, r"neurons/mine: 'step' must take \(state, drive, dt\)"),
    ("neurons", "mine", Required, "constant 'slope' has no default; give one"),
    ("neurons", "mine", Untyped, r"constant 'slope' has no type; write slope: float"),
    ("neurons", "mine", Kind, "a constant cannot be called 'kind'; rename it"),
    ("connections", "mine", Delayed, "a constant cannot be called 'delay'; rename it"),
    ("neurons", "mine", Strange, "a constant has a type that no model file can hold"),
    ("neurons", "mine", lambda: Mine, "makes the class Mine itself; make an instance"),
    ("neurons", "mine", lambda *args: Mine(), r"'\*args' says nothing of its constants"),
    ("rules", "mine", broken, r"rules/mine: cannot be made of its defaults \(ValueError: .*scale"),
    (
        "rules",
        "mine",
        bare,
        "rules/mine: its plasticity (has no method|does not declare) '.*'; the contract is Plastic",
    ),
    ("rules", "mine", Mine, "does not declare 'loss'; the contract is Rule"),
    ("losses", "mine", Mine, "has no (method|property) '.*'; the contract is Described in neurosbd/losses/loss"),
    ("recipes", "mine", lambda: {}, r"a recipe is a function \(raw, rule\)"),
]


@pytest.mark.parametrize(("kind", "name", "item", "message"), REFUSED)
def test_what_breaks_the_contract_is_refused_and_nothing_is_registered(
    kind: Any, name: Any, item: Any, message: str
) -> None:
    before = {kind: dict(table) for kind, table in TABLES.items()}
    with pytest.raises(UsageError, match=message):
        neurosbd.register(kind, name, item)
    assert {kind: dict(table) for kind, table in TABLES.items()} == before
    neurosbd.load_model("digits-mlp")  # the schema is as it was


def test_what_a_contract_has_declared_must_be_declared() -> None:
    from neurosbd.tables import _check_contract

    with pytest.raises(ValueError, match=r"does not declare 'modest'; the contract is Declaring in .*test_plugins\.py"):
        _check_contract(Bare(), Declaring, "")


def test_every_kind_has_a_contract_or_is_closed_and_shipped_items_keep_theirs() -> None:
    """Must fail for a table that is left out of both (tried)."""
    from neurosbd.tables import _check_contract
    from tests.contracts.tables import READ, made

    assert set(TABLES) == {*CONTRACTS, *CLOSED, "rules", "recipes"}
    for kind, contract in CONTRACTS.items():
        for name in TABLES[kind].keys() - READ:
            _check_contract(made(TABLES[kind], name), contract, "")


# Files --------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_plugin_is_listed_and_shown(loud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "list", "neurons", "--plugin", loud)
    assert status == 0 and "loud" in out and "Twice what a rectifier says." in out
    status, out, _ = said(capsys, "show", "quiet", "--plugin", loud)  # again: it has been run
    assert status == 0 and out.startswith("quiet (rules)\n  scale = 0.5  a finite number\n")


BROKEN = [
    ("import nothing_of_the_kind", r"parts.py:1: ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
    ("x = (", r"parts.py:1: SyntaxError"),
    ("x = 1\ny = x / 0", r"parts.py:2: ZeroDivisionError"),
    ("import sys; sys.exit(3)", r"parts.py:1: SystemExit: 3"),
    ("x = 1", r"parts.py: registers nothing; call neurosbd.register"),
    (LOUD.replace('"loud"', '"relu"'), r"parts.py: neurons/relu: the name is taken"),
    (LOUD.replace('"quiet", quiet', '"quiet", Loud'), r"parts.py: rules/quiet: does not declare 'loss'"),
]


@pytest.mark.parametrize(("code", "message"), BROKEN)
def test_a_broken_plugin_is_one_line_and_leaves_nothing(
    code: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even the parts before the failure. Must fail when they stay (tried)."""
    import re

    path = tmp_path / "parts.py"
    path.write_text(code)
    status, out, err = said(capsys, "list", "neurons", "--plugin", path)
    assert status == 2 and not out and err.count("\n") == 1 and re.search(message, err), err
    assert "loud" not in NEURONS and "quiet" not in RULES


def test_a_missing_plugin_and_one_that_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "none.py", tmp_path, "a\0b.py"):
        status, _, err = said(capsys, "list", "neurons", "--plugin", path)
        assert status == 2 and err.count("\n") == 1 and "Traceback" not in err, err


def test_two_plugins_of_one_name_in_two_folders_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own types and its own parts."""
    for folder, name in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        code = LOUD.replace('"loud"', f'"{name}"').replace('"quiet"', f'"quiet_{name}"').replace("Loud", name.title())
        code = code.replace("import neurosbd\n", f"import neurosbd\n{name.title()}Number = float\n")
        code = code.replace("volume: float", f"volume: '{name.title()}Number'")
        (tmp_path / folder / "parts.py").write_text(code)
    files = [word for folder in ("a", "b") for word in ("--plugin", tmp_path / folder / "parts.py")]
    assert said(capsys, "show", "neurons/one", *files)[0] == 0
    settings = {"population.hidden1.neuron": {"kind": "one", "volume": 3.0}, "population.hidden2.neuron": "two"}
    assert neurosbd.load_model("digits-mlp", settings=settings).network().populations["hidden1"].neuron is not None


def test_every_command_takes_plugins(loud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["show", "loud"], ["data", "check", "digits"], ["list", "models"]):
        assert said(capsys, *command, "--plugin", loud)[0] == 0


# Packages -----------------------------------------------------------------------------------------


def package(folder: Path, code: str) -> None:
    """An installed distribution with an entry point."""
    (folder / "offered.py").write_text(code)
    (folder / "offered-1.0.dist-info").mkdir()
    (folder / "offered-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (folder / "offered-1.0.dist-info" / "entry_points.txt").write_text("[neurosbd.plugins]\nmine = offered\n")


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path.insert(0, {str(folder)!r}); "
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)


def test_packages_are_loaded_when_a_name_is_missing_and_not_before(tmp_path: Path) -> None:
    """Neither by import nor by a name that the tables have. Must fail when they are loaded at once (tried)."""
    package(tmp_path, LOUD)
    answer = python(
        tmp_path,
        "import neurosbd; neurosbd.load_model('digits-mlp'); assert 'offered' not in sys.modules; "
        "print(neurosbd.load_model('digits-mlp', settings={'population.hidden1.neuron': 'loud'}, rule='quiet').rule)",
    )
    assert answer.returncode == 0 and "kind='quiet'" in answer.stdout, answer.stderr
    listed = python(tmp_path, "from neurosbd.cli.main import main; main(['list', 'neurons'])")
    assert "loud" in listed.stdout


def test_a_broken_package_is_said_and_is_no_obstacle(tmp_path: Path) -> None:
    package(tmp_path, "raise OSError('no licence')")
    answer = python(tmp_path, "from neurosbd.cli.main import main; sys.exit(main(['list', 'recipes']))")
    assert answer.returncode == 0 and "standard" in answer.stdout
    assert "plugin 'mine' of package 'offered': OSError: no licence; its parts are not there" in answer.stderr


# Runs ---------------------------------------------------------------------------------------------

MODEL = """
rule = "quiet"
[data]
name = "digits"
subset = 10
[training]
epochs = 3
[population]
input = { size = [1, 8, 8] }
hidden = { size = [16], neuron = "loud" }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
[[connection]]
pre = "hidden"
post = "output"
kind = "dense"
"""


def forget(*parts: str) -> None:
    """As if this were another process, without the plugin."""
    for part in parts:
        plugins.remove(*part.split("/"))
    plugins._FILES.clear()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.toml"
    path.write_text(MODEL)
    return path


def test_a_run_names_the_plugins_it_needs(
    loud: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name, sha256 and parts, in config.json and the checkpoint; a run of shipped parts names none."""
    import hashlib

    out = tmp_path / "run"
    assert said(capsys, "fit", model, "--plugin", loud, "--out", out)[0] == 0
    run = neurosbd.open_run(out)
    digest = hashlib.sha256(loud.read_bytes()).hexdigest()
    assert run.config["plugins"] == [{"name": "parts", "sha256": digest, "parts": ["neurons/loud", "rules/quiet"]}]
    assert run.checkpoint()["plugins"] == run.config["plugins"]
    other = neurosbd.fit("digits-mlp", settings={"training.epochs": 1, "data.subset": 10}, out=tmp_path / "plain")
    assert "plugins" not in other.config and "plugins" not in other.checkpoint()


def test_a_run_without_its_plugin_opens_as_far_as_it_can(
    loud: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics, result and learning curves do; the network says which file is missing. Must fail when the run is
    refused as a whole, or the reason is only an unknown name (tried)."""
    out = tmp_path / "run"
    assert said(capsys, "fit", model, "--plugin", loud, "--out", out)[0] == 0
    forget("neurons/loud", "rules/quiet")
    run = neurosbd.open_run(out)
    assert len(run.metrics) == 3 and run.result["status"] == "finished"
    missing = r"config.json: the run uses neurons/loud, rules/quiet of plugin 'parts' \(sha256 .*--plugin parts.py"
    for ask in (lambda: run.definition, run.network):
        with pytest.raises(UsageError, match=missing):
            ask()
    status, _, err = said(capsys, "analyse", out)
    assert status == 0, err
    assert (out / "report" / "figures" / "learning_curves.png").is_file()
    assert said(capsys, "compare", out, out, "--out", tmp_path / "compared")[0] in (0, 2)
    assert said(capsys, "show", "loud", "--plugin", loud)[0] == 0
    assert run.network().populations["hidden"].neuron is not None


def test_resume_says_which_plugin_is_missing_and_goes_on_bit_for_bit_with_it(
    loud: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three epochs, then the last one, against all at once."""
    monkeypatch.chdir(tmp_path)
    whole, part = tmp_path / "whole", tmp_path / "runs" / "model-quiet-seed0"
    assert said(capsys, "fit", model, "--plugin", loud, "--out", whole)[0] == 0

    step = Session.step

    def stopping(session: Session, *requests: Any) -> Any:
        if session.epoch == 2:
            raise KeyboardInterrupt
        return step(session, *requests)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Session, "step", stopping)
        neurosbd.fit(model, out=part)
    forget("neurons/loud", "rules/quiet")
    for more in (["--out", part], []):  # named, or found by the name of the model
        status, _, err = said(capsys, "fit", model, "--resume", *more)
        assert status == 2 and "of plugin 'parts'" in err and "--plugin parts.py" in err, err
    assert said(capsys, "fit", model, "--resume", "--plugin", loud, "--out", part)[0] == 0
    one, two = (neurosbd.open_run(path).checkpoint()["network"] for path in (whole, part))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.filterwarnings("always:.*has changed since")
def test_a_plugin_that_has_changed_since_is_said(
    loud: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert said(capsys, "fit", model, "--plugin", loud, "--out", out)[0] == 0
    forget("neurons/loud", "rules/quiet")
    loud.write_text(LOUD + "\n# another line\n")
    status, _, err = said(capsys, "fit", model, "--resume", "--plugin", loud, "--out", out)
    assert status == 0 and err.count("plugin 'parts' has changed since this run began") == 1


@pytest.mark.parametrize(
    "content", ["[3]", '"x"', '[{"name": "x"}]', '[{"name": "x", "sha256": "", "parts": ["a/b"]}]']
)
def test_a_config_whose_plugins_were_changed_is_refused_in_a_line(
    content: str, model: Path, loud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    out = tmp_path / "run"
    assert said(capsys, "fit", model, "--plugin", loud, "--out", out)[0] == 0
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "plugins": json.loads(content)}))
    with pytest.raises(UsageError, match=r"config\.json: "):
        _ = neurosbd.open_run(out).definition

"""Recipes: what they change, who wins, and that networks learn by them under every rule that broadcasts."""

from pathlib import Path

import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.config.recipes import RECIPES, changes
from neurosbd.config.resolve import describe, load_model, resolve
from neurosbd.errors import UsageError
from neurosbd.files import library
from neurosbd.files.parsing import read_toml

TINY = """
rule = { kind = "sbd", neuromodulator = { scale = 0.7 } }
loss = "brier"
data = { name = "digits" }
[training]
epochs = 1
optimizer = { kind = "sgd", lr = 1e-9 }
rates = { output = 1e-9, maps = 1e-9 }
[override.sbp]
training.batch_size = 7
[population]
input = { size = [1, 8, 8] }
maps = { size = [6, 8, 8], neuron = "softplus" }
rows = { size = [4, 4, 4], neuron = { kind = "leaky_relu", slope = 0.2 } }
output = { size = [10], neuron = "identity" }
[[connection]]
pre = "input"
post = "maps"
kind = "conv2d"
kernel = 3
padding = 1
weight = { kind = "kaiming_normal", gain = 1e-3 }
[[connection]]
pre = "maps"
post = "rows"
kind = "local2d"
kernel = 3
padding = 1
pool = "average"
weight = { kind = "kaiming_normal", gain = 30.0 }
[[connection]]
pre = "rows"
post = "output"
kind = "dense"
weight = { kind = "kaiming_normal", gain = 5.0 }
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A network with bad constants of every kind: nearly silent, loud, hardly learning."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


def rate_models() -> list[str]:
    """Models of the zoo that learn from data with units that have a rate."""
    found = []
    for name in library.names("models"):
        raw = read_toml(library.find("models", name))
        gated = any(neuron in str(raw.get("population")) for neuron in ("corinfomax", "unit_power", "ct_relu"))
        if "data" in raw and "time" not in raw and not gated:
            found.append(name)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", rate_models())
def test_every_network_of_rate_units_can_follow(name: str, recipe: str) -> None:
    """Validated, which builds the network; data, loss, sizes and the way of the connections stay."""
    before, after = load_model(name), load_model(name, recipe=recipe)
    assert after.name == f"{name}-{recipe}" and after.rule.kind == "sbp"
    assert (after.data, after.loss, after.seed) == (before.data, before.loss, before.seed)
    assert [p.size for p in after.population.values()] == [p.size for p in before.population.values()]
    for one, other in zip(before.connection, after.connection, strict=True):
        assert one.model_dump(exclude={"weight"}) == other.model_dump(exclude={"weight"})


def test_settings_win_over_the_recipe_and_the_recipe_over_the_file(tiny: Path) -> None:
    resolved = resolve(
        tiny, settings={"training.epochs": 3, "rule.neuromodulator.relative_rate": 3.0}, recipe="standard"
    )
    definition, origin = resolved.definition, resolved.origin
    assert load_model(tiny, recipe="standard").training.epochs == 1
    assert definition.training.epochs == 3 and origin["training.epochs"] == "setting"
    assert definition.training.batch_size == 50 and origin["training.batch_size"] == "recipe 'standard'"
    assert definition.training.optimizer.kind == "adam" and definition.training.rates == {"output": 10.0}
    rows = {key: (value, where) for key, value, where in describe(resolved)}
    assert rows["rule.kind"][0] == "sbp" and rows["rule.neuromodulator.relative_rate"] == ("3.0", "setting")
    assert rows["rule.neuromodulator.scale"] == ("0.02", "default")  # the file's was for another rule
    assert rows["population.rows.neuron.neuron.slope"] == ("0.2", "recipe 'standard'")
    assert rows["connection.1.kernel"] == ("3", "tiny.toml")
    assert [float(rows[f"connection.{i}.weight.gain"][0]) for i in range(3)] == [1.0, 1.0, 0.1]
    for rule, rate in (("dfa", "0.001"), ("bp", "0.003")):
        assert load_model(tiny, rule, recipe="standard").rule.kind == rule
        own = {key: value for key, value, _ in describe(resolve(tiny, rule=rule, recipe="standard"))}
        assert own["training.optimizer.lr"] == rate
        assert load_model(tiny, settings={"rule": rule}, recipe="standard").rule.kind == rule
    assert load_model(tiny, "bp", recipe="standard").training.rates == {}
    assert load_model(tiny, "ebd", recipe="standard").loss.kind == "squared_error"


def test_a_rule_that_is_set_is_chosen(tiny: Path) -> None:
    """By key or by option: constants of another rule are left behind, and a loss that it cannot have is refused."""
    for key in ("rule", "rule.kind"):
        chosen = load_model(tiny, settings={key: "dfa", "rule.neuromodulator.scale": 0.5})
        assert chosen == load_model(tiny, "dfa", {"rule.neuromodulator.scale": 0.5})
    assert load_model(tiny, "ebd", {"loss": "squared_error"}).loss.kind == "squared_error"
    for settings in ({"loss": "cross_entropy"}, {"loss.label_smoothing": 0.1}):
        with pytest.raises(UsageError, match=r"setting loss.*rule 'ebd' is that of loss 'squared_error'.*'sbd'"):
            load_model(tiny, "ebd", settings)


@pytest.mark.parametrize("rule", ["sbp", "sbd", "ebd", "dfa", "bp"])
def test_a_network_with_bad_constants_learns_by_the_recipe(rule: str, tiny: Path, tmp_path: Path) -> None:
    """Three epochs of 1,442 digits. Must fail without the recipe (tried: 10 %)."""
    run = neurosbd.fit(tiny, rule=rule, recipe="standard", settings={"training.epochs": 3}, out=tmp_path / "run")
    assert run.metrics[-1]["test_accuracy"] > 0.6
    assert run.config["definition"]["name"] == "tiny-standard"


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        ("digits-mlp", "standrd", "there is no recipe 'standrd'; did you mean 'standard'?"),
        ("digits-snn", "standard", "population 'hidden1' has 'lif'; leave the recipe out"),
        ("mnist-vnn", "standard", "has 'ct_relu', whose vectors it would scale component by component"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_2(
    model: str, recipe: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", model, "--recipe", recipe]) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_a_definition_without_a_network_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text('data = { name = "digits" }\n')
    with pytest.raises(UsageError, match="population"):
        load_model(tmp_path / "empty.toml", recipe="standard")


def test_recipes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for name in RECIPES:
        assert main(["list", "recipes"]) == 0 and name in capsys.readouterr().out
        assert main(["show", "digits-mlp", "--recipe", name]) == 0
        assert f"recipe '{name}'" in capsys.readouterr().out


@pytest.mark.parametrize(("units", "rate"), [(2, 10.0), (10, 10.0), (40, 5.0), (1000, 1.0)])
def test_readouts_of_many_classes_learn_more_slowly(units: int, rate: float) -> None:
    raw = {"population": {"input": {"size": [4]}, "output": {"size": [units]}}, "connection": []}
    assert changes("standard", raw, "sbp", "")["training.rates"] == {"output": pytest.approx(rate)}
    assert changes("standard", raw, "bp", "")["training.rates"] == {}


@pytest.mark.parametrize("size", ["[0]", '["many"]', '"many"', "4", "{ a = 1 }", "[]"])
def test_a_readout_of_no_size_is_left_to_the_validation(size: str, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("output = { size = [10]", f"output = {{ size = {size}"))
    with pytest.raises(UsageError, match=r"output\.size"):
        load_model(tiny, recipe="standard")

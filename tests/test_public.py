"""What stands at the top of the package: names, tables, and a learner for a loop of one's own."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

import neurosbd
from neurosbd import tables
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES, SquaredError
from neurosbd.rules import RULES
from neurosbd.schema.kinds import _objects, declared
from neurosbd.seeds import generator

TABLES = set(tables.TABLES) - {"activations", "eligibilities"}  # which hold no makers


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_reads_like_a_dictionary_and_cannot_be_written(name: str) -> None:
    """Must fail when a package is not made a table (tried)."""
    table = getattr(neurosbd, name)
    assert len(table) == len(list(table)) > 0 and name in dir(neurosbd)
    for key, make in table.items():
        assert table[key] is make and key in table and callable(make)
    with pytest.raises(TypeError):
        table["mine"] = table
    with pytest.raises(KeyError):
        table["mine"]


def parts_of(table: Any) -> Iterator[tuple[str, Any, str]]:
    """(entry, its record of constants, field) of every constant of a table that is an object."""
    for name, make in table.items():
        try:
            made = make()
        except (TypeError, ValueError):  # without constants it is none
            continue
        if dataclasses.is_dataclass(made):
            hints = get_type_hints(type(made), include_extras=True)
            for field in dataclasses.fields(made):
                if field.init and _objects(declared(hints[field.name])[0]):
                    yield name, made, field.name


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_of_a_model_file_or_a_class_is_no_part(name: str) -> None:
    """A dictionary where the object is meant that a model file makes of it, and a class in place of an instance.
    Must fail when protocols that cannot be asked for at run time take anything (tried: as it was)."""
    for entry, made, field in parts_of(getattr(neurosbd, name)):
        for wrong in ({"kind": "normal"}, type(made)):
            with pytest.raises((ValueError, TypeError), match=field):
                dataclasses.replace(made, **{field: wrong})
                pytest.fail(f"{name}[{entry!r}].{field} took {wrong}")


def test_a_room_stays_a_module_when_it_is_a_table() -> None:
    rooms = [import_module(f"neurosbd.{name}") for name in ("rules", "neurons")]
    assert rooms[0] is neurosbd.rules and len(set(rooms)) == 2
    assert neurosbd.rules["sbd"] is RULES["sbd"]
    with pytest.raises(KeyError, match="did you mean 'sbd'"):
        neurosbd.rules["sdb"]


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    """Must fail when the top imports a table (tried)."""
    code = "import sys, neurosbd; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules); neurosbd.rules['sbd']"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_a_learner_by_names_is_the_one_of_a_run() -> None:
    """By name, by object and by hand: the same gradient. Must fail when the seed names another stream (tried)."""
    batch = neurosbd.Batch(torch.randn(1, 8, 1, 8, 8), torch.arange(8))
    gradients = []
    for made in (
        lambda n: neurosbd.learner(n, "sbd", "cross_entropy", seed=3),
        lambda n: neurosbd.learner(n, neurosbd.rules["sbd"](), neurosbd.losses["cross_entropy"](), seed=3),
        lambda n: Learner(n, RULES["sbd"](), LOSSES["cross_entropy"](), generator(3, "projection")),
    ):
        network = neurosbd.load_model("digits-mlp").network()
        made(network).learn(batch)
        gradients.append(torch.cat([w.grad.flatten() for w in network.parameters() if w.grad is not None]))
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])
    assert gradients[0].abs().sum() > 0


def test_a_learner_takes_the_loss_of_its_rule_and_a_function() -> None:
    network = neurosbd.load_model("digits-mlp").network()
    taught = neurosbd.learner(network, "ebd")
    assert isinstance(taught, Learner) and taught.loss == SquaredError()
    own = neurosbd.learner(network, "sbd", lambda output, target: (output - target).abs().sum(1))
    own.learn(neurosbd.Batch(torch.randn(1, 4, 1, 8, 8), torch.randn(4, 10)))
    with pytest.raises(neurosbd.UsageError, match="squared_error"):
        neurosbd.learner(network, "ebd", "brier")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rule": "sdb"}, "did you mean 'sbd'"),
        ({"loss": "cross_entrpy"}, "did you mean 'cross_entropy'"),
        ({"rule": RULES["sbd"]}, "RULES"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"loss": 3}, "function"),
        ({"network": "digits-mlp"}, "neurosbd.Network"),
    ],
)
def test_what_is_no_part_of_a_learner_is_refused(wrong: dict[str, object], said: str) -> None:
    given = {"network": neurosbd.load_model("digits-mlp").network(), **wrong}
    with pytest.raises(neurosbd.UsageError, match=said):
        neurosbd.learner(**given)  # type: ignore[arg-type]


def test_examples_without_an_axis_of_steps_are_refused_with_the_fix() -> None:
    with pytest.raises(neurosbd.UsageError, match=r"x\[None\]"):
        neurosbd.Batch(torch.randn(32, 1, 8, 8), torch.arange(32))


def test_a_loop_of_ones_own_takes_the_steps_of_fit(tmp_path: Path) -> None:
    """Three batches of all examples, SGD. Must fail when the rule has its defaults in place of the model's constants
    (tried: 5e-3), or learns with a progress that stays 0 where its constants move (tried)."""
    settings = {
        "training.epochs": 3, "data.subset": 20, "training.batch_size": 200, "training.rates": {},
        "training.schedule": "constant", "training.optimizer": {"kind": "sgd", "lr": 0.05},
        "rule.neuromodulator.forgetting": {"start": 0.2, "end": 0.9},
    }  # fmt: skip
    run = neurosbd.fit("digits-mlp", settings=settings, out=tmp_path / "run")
    definition = neurosbd.load_model("digits-mlp", settings=settings)
    experiment, data = definition.build(), neurosbd.load_data("digits", subset=20)
    network = experiment.network
    learner = neurosbd.learner(network, experiment.rule, experiment.loss, seed=definition.seed)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    pictures = torch.from_numpy(data.train.values).permute(0, 3, 1, 2) / data.maximum
    x, y = (pictures - data.mean[0]) / data.std[0], torch.from_numpy(data.train.labels)
    for step in range(3):
        learner.progress = step / 3
        optimizer.zero_grad()
        learner.learn(neurosbd.Batch(x[None], y))
        optimizer.step()
        learner.after_step()
    for ours, theirs in zip(network.parameters(), run.network().parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("what", ["rule", "loss"])
def test_an_entry_of_a_definition_is_told_from_what_it_describes(what: str) -> None:
    """Must fail when it is refused as if it were a stranger (tried)."""
    definition = neurosbd.load_model("digits-mlp")
    given = {"rule": "sbd", what: getattr(definition, what)}
    with pytest.raises(neurosbd.UsageError, match=f"definition.build\\(\\).{what}"):
        neurosbd.learner(definition.network(), **given)  # type: ignore[arg-type]

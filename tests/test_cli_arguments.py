"""Arguments of fit, simulate and load_model: near misses are taken as meant, others have a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.losses import CrossEntropy
from neurosbd.neurons import LIF
from neurosbd.rules import RULES

FEW: dict[str, Any] = {"training.epochs": np.int64(1), "data.subset": np.int32(5), "data.test_subset": torch.tensor(5)}


def test_numbers_paths_and_single_texts_are_what_they_say(tmp_path: Path) -> None:
    """Must fail when a path reaches the schema, or a text is taken for its letters (both tried)."""
    x, labels = np.random.default_rng(0).normal(size=(40, 64)), np.arange(40) % 10
    np.savez(tmp_path / "own.npz", train_values=x, train_labels=labels, test_values=x, test_labels=labels)
    sizes = {"population.input.size": np.array([64]), "training.rates": {"output": np.float64(10.0)}}
    settings = {"training.epochs": np.int64(1), "training.clip_norm": None, **sizes}
    seed: Any = np.int64(3)
    run = neurosbd.fit(
        "digits-mlp", data=tmp_path / "own.npz", seed=seed, settings=settings, out=tmp_path / "run",
        record="hidden1.rate[on=test]", device=torch.device("cpu"),
    )  # fmt: skip
    definition = run.definition
    assert (definition.seed, definition.training.epochs, definition.training.clip_norm) == (3, 1, None)
    assert definition.training.rates == {"output": 10.0} and len(definition.record.signals) == 1
    assert neurosbd.fit("digits-mlp", settings=FEW, out=tmp_path / "few").definition.data.subset == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rule": RULES["sbd"]()},
            r"a rule is asked for by name, got LocalRule; give rule='sbd'.*rule.neuromodulator.scale",
        ),
        ({"rule": RULES["sbd"]}, "a rule is asked for by name, got function"),
        ({"recipe": 1}, "a recipe is asked for by name, got int"),
        ({"loss": CrossEntropy}, r"is the class CrossEntropy itself; give an instance, CrossEntropy\(\.\.\.\)"),
        ({"loss": 3}, "give a function"),
        ({"data": np.zeros((3, 4))}, r"data is ndarray; give \(x, y\)"),
        ({"settings": ["training.epochs=1"]}, "settings must map dotted keys to values"),
        ({"settings": {1: 2}}, "settings must map dotted keys to values"),
        ({"settings": {"training.epochs": None}}, "training.epochs: .*got None"),
        ({"settings": {"training.epochs": 1.5}}, "training.epochs: .*got 1.5"),
        ({"settings": {"population.hidden1.neuron": LIF()}}, r"setting population.hidden1.neuron.*got LIF.*'kind'"),
        ({"seed": "one"}, "seed: .*got 'one'"),
        ({"seed": True}, "seed: .*got True"),
        ({"seed": -1}, "seed: .*got -1"),
        ({"record": [3]}, "record must be texts"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
    ],
)
def test_what_cannot_be_meant_has_a_sentence_and_leaves_nothing(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.fit("digits-mlp", **options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_a_name_or_a_path() -> None:
    for model in (None, neurosbd.load_model("digits-mlp"), 3):
        with pytest.raises(UsageError, match="a model is asked for by name"):
            neurosbd.load_model(model)  # type: ignore[arg-type]


def test_experiments_take_the_same(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a rule is asked for by name"):
        neurosbd.simulate("stdp-window", rule=RULES["stdp"](), out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="settings must map"):
        neurosbd.simulate("stdp-window", settings="a=b", out=tmp_path / "run")  # type: ignore[arg-type]

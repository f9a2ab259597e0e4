"""Populations name their axes; whoever has one value per unit asks those names."""

from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.axes import LEGAL, components, inner, is_map, named, per_component, per_example, per_unit, whole
from neurosbd.cli.main import main
from neurosbd.connections import Dense
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import LAYOUTS
from neurosbd.neurons import NEURONS

SIZES = {
    ("units",): (4,), ("units", "components"): (4, 3), ("channels", "height", "width"): (4, 3, 2),
    ("channels", "components", "height", "width"): (4, 3, 2, 5),
}  # fmt: skip


@pytest.mark.parametrize("names", LEGAL)
def test_axes_of_a_population(names: Any) -> None:
    axes = named(SIZES[names], names)
    assert (axes.units, axes.size, axes.names) == (4, SIZES[names], names)
    assert axes.places == {1: 1, 2: 3, 3: 6, 4: 30}[len(names)]
    assert axes.neurons == {1: 4, 2: 4, 3: 24, 4: 40}[len(names)]
    assert axes.is_map == (len(names) == 3) and axes.is_vectors == (len(names) in (2, 4))
    if not axes.is_vectors:  # by the length of the size
        assert named(SIZES[names]) == axes
    value = torch.randn(5, *SIZES[names])
    assert is_map(value) == axes.is_map
    assert value.sum(inner(value)).shape == (5, 4) if inner(value) else value.shape == (5, 4)
    assert value.sum(whole(value)).shape == (5,)
    assert components(value) == ((2,) if axes.is_vectors else ())
    if axes.is_vectors:
        component = torch.arange(15.0).view(5, 3)
        shown = per_component(component, value)
        assert shown.shape == value.shape and (shown[4, :, 2] == 14).all()
    unit, example = torch.arange(4.0), torch.arange(5.0)
    assert (per_unit(unit, value).expand_as(value)[:, 2] == 2).all()
    assert (per_example(example, value).expand_as(value)[3] == 3).all()


WRONG = [
    ((4, 3), None, r"a size of 2 numbers, \[4, 3\], says nothing.*axes = \[\"units\", \"components\"\]"),
    ((4, 3, 2, 1), None, r"a size of 4 numbers.*axes = \[\"channels\", \"components\", \"height\", \"width\"\]"),
    ((4, 3), ("units",), r"its axes are \['units'\], but its size has 2 numbers: \[4, 3\]"),
    ((4,), ("components",), r"its axes must be \['units'\] or \['units', 'components'\] or .*got \['components'\]"),
]


@pytest.mark.parametrize(("size", "axes", "message"), WRONG)
def test_sizes_that_say_nothing_are_refused(size: Any, axes: Any, message: str) -> None:
    populations = [Population("input", (3,), None), Population("out", size, NEURONS["relu"](), axes)]
    with pytest.raises(ValueError, match=f"population 'out': {message}"):
        Network(populations, [Connection("input", "out", Dense())], torch.Generator())


@pytest.mark.parametrize(
    ("population", "message"),
    [
        ("{ size = [8, 8], neuron = 'relu' }", r"population.hidden1.*a size of 2 numbers, \[8, 8\]"),
        ("{ size = [8, 8], neuron = 'relu', axes = ['units', 'component'] }", r"population.hidden1.axes.*'components'"),
        ("{ size = [8], neuron = 'relu', axes = ['units', 'components'] }", r"its size has 1 numbers?: \[8\]"),
    ],
)
def test_a_model_file_with_other_axes_is_one_line(
    population: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    text = (Path(neurosbd.__file__).parents[1] / "models" / "digits-mlp.toml").read_text()
    model = tmp_path / "model.toml"
    model.write_text(text.replace('{ size = [128], neuron = "relu" }', population))
    status = main(["fit", str(model), "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert status == 2 and re.search(message, told) and "Traceback" not in told and not (tmp_path / "run").exists()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_of_vectors_reach_every_component(layout: str) -> None:
    """As they reach units: of the same variance, each by itself. Must fail when components are taken for patches of a
    map (tried)."""
    made, value = LAYOUTS[layout](), torch.randn(7, 6, 5)
    basis = made.init(value, torch.Generator().manual_seed(0))
    summary = made.summary(value, basis)
    assert summary.shape == (7, 8 if layout == "low_rank" else 30)
    spread = made.spread(summary, value, basis)
    assert spread.shape == value.shape
    if layout != "low_rank":
        assert torch.equal(spread, value)


def test_a_summary_names_the_axes() -> None:
    summary = neurosbd.load_model("cifar10-small").network().summary()
    assert "channels, height, width" in repr(summary) and summary.populations[0].axes.is_map

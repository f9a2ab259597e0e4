"""How networks, definitions, runs and traces show themselves: a line in a console, a table in a notebook."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import neurosbd
from neurosbd.connections import POOLINGS, Conv2d, Dense, Local2d
from neurosbd.neurons import ReLU

HOSTILE = "<script>alert(1)</script>\x1b[2J"


class Tags(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> neurosbd.Run:
    settings = {"training.epochs": 3, "data.subset": 20}
    path = tmp_path_factory.mktemp("runs") / "digits"
    return neurosbd.fit("digits-mlp", settings=settings, record=["*.rate[on=test]"], out=path)


def network(*layers: tuple[tuple[int, ...], object]) -> neurosbd.Network:
    """Layers one behind the other: (size, geometry that leads there)."""
    names = ["input", *(f"h{i}" for i in range(1, len(layers)))]
    populations = [neurosbd.Population(n, s, ReLU() if g else None) for n, (s, g) in zip(names, layers, strict=True)]
    connections = [
        neurosbd.Connection(names[i], names[i + 1], g)  # type: ignore[arg-type]
        for i, (_, g) in enumerate(layers[1:])
    ]
    return neurosbd.Network(populations, connections, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("start", "size", "geometry", "by_hand"),
    [
        ((7,), (5,), Dense(bias=True), 5 * 7),
        ((2, 6, 6), (5,), Dense(pool=POOLINGS["average"](2)), 5 * 2 * 3 * 3),
        ((3, 8, 8), (4, 8, 8), Conv2d(3, padding=1, bias=True), 4 * 3 * 9 * 64),
        ((3, 8, 8), (4, 3, 3), Conv2d(3, stride=2), 4 * 3 * 9 * 9),
        ((3, 8, 8), (4, 4, 4), Conv2d(3, padding=1, pool_drive=POOLINGS["max"](2)), 4 * 3 * 9 * 64),
        ((3, 8, 8), (4, 4, 4), Conv2d(3, padding=1, pool=POOLINGS["max"](2)), 4 * 3 * 9 * 16),
        ((3, 8, 8), (4, 6, 6), Local2d(3), 4 * 3 * 9 * 36),
        ((3, 8, 8), (4, 3, 3), Local2d(3, pool_drive=POOLINGS["max"](2)), 4 * 3 * 9 * 36),
    ],
)  # fmt: skip
def test_multiplications_are_those_counted_by_hand(
    start: tuple[int, ...], size: tuple[int, ...], geometry: object, by_hand: int
) -> None:
    """One product for every weight and every place where it is used. Must fail when (tried) a convolution counts the
    positions behind the pooling of the drive, or a map before its pooling."""
    (row,) = network((start, None), (size, geometry)).summary().connections
    assert row.multiplications == by_hand


@pytest.mark.parametrize("geometry", [Dense(), Conv2d(3, padding=1), Local2d(3, padding=1)])
def test_multiplications_are_those_that_torch_counts(geometry: object) -> None:
    """Two operations per multiplication, by torch's own counter. Must fail when (tried) a kernel counts once."""
    from torch.utils.flop_counter import FlopCounterMode

    size = (5,) if isinstance(geometry, Dense) else (5, 6, 6)
    made = network(((2, 6, 6), None), (size, geometry))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made(torch.randn(1, 2, 6, 6))
    assert counter.get_total_flops() == 2 * made.summary().multiplications


def test_a_summary_counts_what_the_network_has() -> None:
    made = neurosbd.load_model("cifar10-small").network()
    summary = made.summary()
    assert summary.parameters == sum(p.numel() for p in made.parameters())
    assert [p.name for p in summary.populations] == list(made.populations)
    assert "conv1->conv2" in repr(summary) and f"{summary.multiplications:,}" in repr(summary)
    assert repr(made).count("\n") == 0 and "conv1 32x32x32 ReLU" in repr(made) and len(repr(made)) < 200
    assert Tags(made._repr_html_()).seen == {"table", "caption", "tr", "th", "td"}


def test_a_run_shows_what_ran_and_how_far_it_came(run: neurosbd.Run) -> None:
    accuracy = f"{run.metrics[-1]['test_accuracy']:.2%}"
    assert (
        repr(run)
        == f"Run({str(run.path)!r}: digits-mlp, rule sbd, seed 0; finished, 3 epochs, test accuracy {accuracy})"
    )
    page = run._repr_html_()
    assert accuracy in page and Tags(page).seen >= {"table", "svg", "polyline"}
    assert page.count("<polyline") == 2 and len(page) < 5000


def test_a_learning_curve_goes_through_the_metrics(run: neurosbd.Run) -> None:
    """The highest accuracy is at the upper edge, the lowest at the lower one. Must fail when (tried) it points down."""
    page = run._repr_html_()
    places = [
        [float(point.split(",")[1]) for point in line.split('points="')[1].split('"')[0].split()]
        for line in page.split("<polyline")[1:]
    ]
    values = [[m[f"{on}_accuracy"] for m in run.metrics] for on in ("train", "test")]
    flat = [(v, p) for vs, ps in zip(values, places, strict=True) for v, p in zip(vs, ps, strict=True)]
    assert min(flat)[1] == 144 and max(flat)[1] == 36


def test_definitions_and_traces_are_a_line(run: neurosbd.Run) -> None:
    definition = run.definition
    assert repr(definition) == str(definition)
    assert repr(definition) == "Definition(digits-mlp: rule sbd, loss cross_entropy, data digits, 3 epochs, seed 0)"
    assert "epochs" in definition._repr_html_()
    assert "signals" in repr(run.trace) and "hidden1.rate@test" in run.trace._repr_html_()
    experiment = neurosbd.load_model("stdp-window")
    assert "pairing" in repr(experiment) and experiment._repr_html_()


def test_learners_data_health_and_comparisons_show_themselves(run: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when a record shows its arrays (tried: without a repr of its own a data set is 1,900 characters)."""
    learner = neurosbd.learner(run.network(), "sbd")
    assert repr(learner).startswith("Learner(ThreeFactor, Decorrelation, CrossEntropy; input 1x8x8, hidden1 128")
    assert repr(neurosbd.learner(run.network(), "bp")).startswith("Learner(Backprop, CrossEntropy; input 1x8x8")
    data = neurosbd.load_data("digits")
    assert repr(data) == (
        "Dataset('digits': 1,442 train, 355 test; size [1, 8, 8], 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    )
    assert "1,442" in data._repr_html_() and "table" in Tags(data._repr_html_()).seen
    health = neurosbd.health(run.network(), torch.rand(5, 1, 8, 8))
    assert "hidden1" in health._repr_html_() and "all populations are well" in health._repr_html_()
    compared = neurosbd.compare([run.path], tmp_path / "compared")._repr_html_()
    assert "digits-mlp" in compared and "table" in Tags(compared).seen


def test_names_of_strangers_are_escaped(run: neurosbd.Run, tmp_path: Path) -> None:
    """Must fail when (tried) a cell is not escaped."""
    config = json.loads((run.path / "config.json").read_text())
    config["definition"]["name"] = HOSTILE
    made = neurosbd.Run(tmp_path / HOSTILE.replace("/", ""), config, run.metrics, {"status": HOSTILE})
    for page in (
        made._repr_html_(),
        neurosbd.load_model("digits-mlp").model_copy(update={"name": HOSTILE})._repr_html_(),
    ):
        assert "script" not in Tags(page).seen and "\x1b" not in page
    assert "\x1b" not in repr(made) and "\n" not in repr(made)


def test_a_run_without_epochs_shows_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"definition": {"name": "half"}}')
    run = neurosbd.open_run(tmp_path)
    assert "half" in repr(run) and "<svg" not in run._repr_html_()

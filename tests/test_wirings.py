"""Which pairs of units a wiring joins."""

import math
from pathlib import Path

import pytest
import torch

import neurosbd
from neurosbd.connections import WIRINGS, Dense
from neurosbd.connections import wirings as module
from neurosbd.connections.wirings import Distance, Indegree, OneToOne, OneToOthers, Outdegree, by_chance
from neurosbd.errors import UsageError
from neurosbd.testing import check_wiring


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("autapses", [True, False])
def test_degrees_are_exact_and_the_units_equally_likely(autapses: bool) -> None:
    """Must fail when an autapse is counted and then left out (tried)."""
    into = Dense(wiring=Indegree(8), autapses=autapses).mask((40, 40), seeded())
    out = Dense(wiring=Outdegree(8), autapses=autapses).mask((40, 40), seeded())
    assert into is not None and out is not None
    assert (into.sum(1) == 8).all() and (out.sum(0) == 8).all()
    for mask in (into, out):
        assert autapses or not mask.diagonal().any()
    counts = sum(Dense(wiring=Indegree(8)).mask((40, 40), seeded(n)) for n in range(100))  # type: ignore[misc]
    spread = math.sqrt(4000 * 0.2 * 0.8)
    assert ((counts.sum(0) - 800).abs() < 5 * spread).all()


def test_parts_are_drawn_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when units of a part are counted from 0 to find autapses (tried)."""
    every = [make() for name, make in WIRINGS.items() if name != "file"]
    whole = [each.draw(81, 81, True, seeded(3)) for each in every] + [by_chance(81, 81, 0.7, False, seeded(4))]
    monkeypatch.setattr(module, "_AT_ONCE", 81 * 20)
    parts = [each.draw(81, 81, True, seeded(3)) for each in every] + [by_chance(81, 81, 0.7, False, seeded(4))]
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.post, other.post) and torch.equal(one.pre, other.pre)
    mask = Dense(sparsity=0.7, autapses=False).mask((81, 81), seeded(4))
    assert mask is not None and torch.equal(torch.stack(whole[-1], 1), mask.nonzero())


def test_others_are_all_but_oneself() -> None:
    """Must fail when unit n reaches unit n (tried)."""
    mask = Dense(wiring=OneToOthers()).mask((5, 5), seeded())
    assert mask is not None and torch.equal(mask, 1 - torch.eye(5))
    assert OneToOthers().density(5, 5) == pytest.approx(mask.mean().item())


@pytest.mark.parametrize("profile", ["gaussian", "exponential"])
@pytest.mark.parametrize(("space", "units"), [("ring", 100), ("grid", 100), ("torus", 100)])
def test_probability_falls_with_distance(profile: str, space: str, units: int) -> None:
    """Shares of joined pairs against the equation, 40 draws. Must fail when a ring does not close (tried)."""
    wiring = Distance(width=0.2, peak=0.8, profile=profile, space=space)  # type: ignore[arg-type]
    places = wiring.places(units)
    along = (places[:, None] - places).abs()
    along = along if space == "grid" else torch.minimum(along, 1 - along)
    distance = along.square().sum(-1).sqrt()
    joined = sum(Dense(wiring=wiring).mask((units, units), seeded(n)) for n in range(40))  # type: ignore[misc]
    for low in torch.arange(0, 0.5, 0.1).tolist():
        these = (distance >= low) & (distance < low + 0.1)
        d, count = distance[these], 40 * int(these.sum())
        p = 0.8 * (torch.exp(-d / 0.2) if profile == "exponential" else torch.exp(-(d**2) / 0.08))
        assert abs(joined[these].sum() - 40 * p.sum()) < 5 * math.sqrt(count * 0.25)
    assert wiring.probability(torch.zeros(())) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("dense", "pre", "said"),
    [
        (Dense(wiring=Indegree(7)), 5, "indegree: 7 different pre units are to be drawn out of 5; take count = 5 or"),
        (Dense(wiring=Indegree(6), autapses=False), 6, "out of 5 others, as autapses = false; take count = 5"),
        (Dense(wiring=Outdegree(9)), 5, "outdegree: 9 different post units are to be drawn out of 6"),
        (Dense(wiring=OneToOne()), 5, "one_to_one joins populations of one size, got 5 units onto 6"),
        (Dense(wiring=OneToOne(), autapses=False), 6, "one_to_one without autapses joins nobody"),
        (Dense(wiring=OneToOthers()), 5, "one_to_others joins populations of one size, of two units or more, got 5"),
        (Dense(wiring=Distance(space="grid")), 4, "must be a square number, got 6; make it 4 or 9"),
    ],
)
def test_what_cannot_be_wired_is_refused_with_its_connection(dense: Dense, pre: int, said: str) -> None:
    lif = neurosbd.neurons["lif"]()
    populations = [neurosbd.Population("a", (6,), lif), neurosbd.Population("b", (pre,), lif)]
    ends = ("a", "a") if not dense.autapses else ("b", "a")
    with pytest.raises(ValueError, match=f"connection '{ends[0]}->{ends[1]}': .*{said}"):
        neurosbd.Network(populations, [neurosbd.Connection(*ends, dense)], seeded())


def test_a_model_file_wires_as_python_does(tmp_path: Path) -> None:
    path = tmp_path / "wired.toml"
    text = """
simulation = { duration = "10 ms" }
stimulus = [{ population = "a", kind = "current", amplitude = 0.1 }]
connection = [{ pre = "a", post = "a", kind = "dense", autapses = false, wiring = { kind = "indegree", count = 3 } }]
population = { a = { size = [9], neuron = "lif" } }
"""
    path.write_text(text)
    network = neurosbd.load_model(path).network()
    present = network.present(network.connections["a->a"])
    assert present is not None and (present.sum(1) == 3).all() and not present.diagonal().any()
    assert torch.equal(network.weights["a->a"] != 0, present > 0)
    for change, said in (
        (("count = 3", "count = 9"), "9 different pre units are to be drawn out of 8 others"),
        (('"indegree"', '"indegre"'), "there is no 'indegre'; did you mean 'indegree'"),
        (("autapses = false", "sparsity = 0.5"), "wiring and sparsity = 0.5 both say"),
    ):
        path.write_text(text.replace(*change))
        with pytest.raises(UsageError, match=said):
            neurosbd.load_model(path).network()


def test_a_wiring_that_joins_a_pair_twice_breaks_the_contract() -> None:
    class Twice(Indegree):
        def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> module.Pairs:
            found = super().draw(post, pre, autapses, generator)
            return module.Pairs(*(each.repeat_interleave(2) for each in found))

    with pytest.raises(AssertionError, match="each once"):
        check_wiring(Twice)


def test_the_page_names_every_wiring() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "free-runs.md").read_text()
    assert all(f"| `{name}` |" in page for name in WIRINGS)

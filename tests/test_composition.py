"""Rules as compositions in model files: any plasticity with any neuromodulator, and what cannot work."""

from pathlib import Path
from typing import Any

import pytest
import torch

import neurosbd
from neurosbd.config.rule_change import carried_over
from neurosbd.errors import UsageError
from neurosbd.neuromodulators import NEUROMODULATORS, Decorrelation, FixedRandom, Forgetting, Grid, Reward, Transposed
from neurosbd.neurons import NEURONS
from neurosbd.plasticity import PLASTICITIES, EligibilityPropagation, RewardedSpikeTiming, SpikeTiming, ThreeFactor
from neurosbd.rules import RULES, LocalRule
from neurosbd.rules.composed import Parts


def built(rule: str | None = None, **settings: Any) -> Any:
    return neurosbd.load_model(
        "digits-mlp", rule, {f"rule.{k.replace('__', '.')}": v for k, v in settings.items()}
    ).rule.build()


def test_a_table_without_a_kind_changes_the_rules_own() -> None:
    """The rest stays as the file and the rule have it. Must fail when a table takes the place of all (tried)."""
    rule = built(neuromodulator__layout="grid", neuromodulator__forgetting={"start": 0.9, "end": 0.999})
    assert rule.neuromodulator == Decorrelation(Grid(), scale=0.05, forgetting=Forgetting(0.9, 0.999))
    assert built(neuromodulator__forgetting=0.99).neuromodulator.forgetting == Forgetting(0.99)
    assert built(neuromodulator__fading__start=0.5).neuromodulator.fading == Forgetting(0.5)
    assert built("rstdp", plasticity__window__w_max=0.3).plasticity.window.w_max == 0.3


def test_a_table_with_a_kind_takes_the_place_of_the_rules_own() -> None:
    assert built("eprop", neuromodulator="transposed").neuromodulator == Transposed()
    assert built("eprop", neuromodulator={"kind": "fixed_random"}).neuromodulator == FixedRandom()
    rule = built("local", plasticity="eligibility_propagation", neuromodulator="prediction", eligibility="exact")
    assert type(rule.plasticity) is EligibilityPropagation and not rule.rewarded


def test_every_rule_takes_the_same_parts_and_says_them_in_full() -> None:
    """What a definition writes down is read back as itself."""
    for name in RULES:
        definition = neurosbd.load_model("digits-mlp", name)
        again = type(definition).model_validate(neurosbd.load_model("digits-mlp", name).model_dump())
        assert again.rule == definition.rule
        if isinstance(definition.rule.build(), LocalRule):
            assert type(definition.rule).parameters == frozenset(Parts.__annotations__)
            assert definition.rule.build() == again.rule.build()


@pytest.mark.parametrize("plasticity", list(PLASTICITIES))
@pytest.mark.parametrize("neuromodulator", list(NEUROMODULATORS))
def test_any_plasticity_goes_with_any_neuromodulator_or_is_refused(plasticity: str, neuromodulator: str) -> None:
    """In one sentence before anything runs; what is taken learns from a batch."""
    settings = {"plasticity": plasticity, "neuromodulator": neuromodulator}
    legal = PLASTICITIES[plasticity]().eligibilities
    if legal and "factorised" not in legal:
        settings["eligibility"] = legal[0]
    if not PLASTICITIES[plasticity]().modulated:
        with pytest.raises(UsageError, match=rf"rule: .*'{plasticity}' takes no third factor, so neuromodulator"):
            built("local", **settings)
        return
    rule = built("local", **settings)
    assert type(rule.plasticity) is PLASTICITIES[plasticity]
    assert type(rule.neuromodulator) is NEUROMODULATORS[neuromodulator]
    assert rule.rewarded == (neuromodulator == "reward")


@pytest.mark.parametrize(
    "neuromodulator", [n for n in NEUROMODULATORS if n not in ("transposed", "following", "componentwise", "aligned")]
)
def test_three_factors_learn_from_every_neuromodulator(neuromodulator: str) -> None:
    definition = neurosbd.load_model("digits-mlp", "local", {"rule.neuromodulator": neuromodulator})
    network = definition.network()
    learner = neurosbd.learner(network, definition.rule.build(), "cross_entropy", seed=0)
    for _ in range(2):  # a correlation has nothing to send before the first batch
        learner.learn(neurosbd.Batch(torch.randn(1, 8, 1, 8, 8), torch.arange(8)))
    gradient = network.weights["input->hidden1"].grad
    assert gradient is not None and gradient.abs().max() > 0


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sbd", {"scale": 0.1}, r"rule\.scale: is rule\.neuromodulator\.scale now"),
    ("sbd", {"projection": "full"}, r"rule\.projection: is rule\.neuromodulator\.layout now"),
    ("sbd", {"forgetting_end": 0.9}, r"rule\.forgetting_end: is rule\.neuromodulator\.forgetting\.end now"),
    ("sbd", {"tau_activity": 0.02}, r"rule\.tau_activity: is rule\.activity_filter"),
    ("eprop", {"feedback": "symmetric"}, r"rule\.feedback: is rule\.neuromodulator \('fixed_random', or 'transposed'"),
    ("stdp", {"w_max": 1.0}, r"rule\.w_max: is rule\.plasticity\.window\.w_max now"),
    ("sbd", {"neuromodulator__scal": 1}, r"rule\.neuromodulator\.scal: unknown key; did you mean 'scale'"),
    ("sbd", {"neuromodulator__scale": "big"}, r"rule\.neuromodulator\.scale: .* got 'big'"),
    ("sbd", {"neuromodulator": "rewards"}, r"rule\.neuromodulator.*there is no 'rewards'; did you mean 'reward'"),
    ("sbd", {"neuromodulator__forgetting": "slow"}, r"rule\.neuromodulator\.forgetting"),
    ("sbd", {"neuromodulator__forgetting": {"begin": 0.9}}, r"forgetting\.begin: unknown key"),
    ("sbd", {"plasticity": "eligibility_propagation"}, r"works with 'exact', got 'factorised'"),
    (
        "sbd",
        {"plasticity": "spike_timing"},
        r"plasticity 'spike_timing' takes no third factor",
    ),
    ("stdp", {"plasticity": "three_factor"}, r"plasticity 'three_factor' changes nothing without a"),
    (
        "rstdp",
        {"expansion": ["bartlett"]},
        r"expansion goes with a score, but neuromodulator 'reward' is sent a",
    ),
    (
        "dfa",
        {"activity_filter": 0.02},
        r"activity_filter: neuromodulator 'fixed_random' is none that looks",
    ),
    ("rstdp", {"rate_cost": 1.0}, r"rate_cost: plasticity 'rewarded_spike_timing' does not regulate"),
    ("dfa", {"forward_broadcast": 0.1}, r"forward_broadcast needs a neuromodulator that keeps the correlation"),
]


@pytest.mark.parametrize(("rule", "settings", "message"), REFUSED)
def test_what_cannot_work_is_refused_with_the_key(rule: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        built(rule, **settings)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_file_says_that_there_is_no_neuromodulator() -> None:
    """Must fail when 'none' is looked for in the table (tried)."""
    rule = built("local", plasticity="spike_timing", neuromodulator="none")
    assert rule.neuromodulator is None and isinstance(rule.plasticity, SpikeTiming)
    with pytest.raises(UsageError, match="changes nothing without a third factor; set a neuromodulator: decorrelation"):
        built("sbd", neuromodulator="none")


UNMADE: list[tuple[str, dict[str, Any], str]] = [
    ("sbd", {"neuromodulator": {"scale": 0.1}},
     r"neuromodulator: must be made, got \{'scale': 0\.1\}; write neurosbd\.neuromodulators\['decorrelation'\]\(sca"),
    ("dfa", {"neuromodulator": {"kind": "reward", "tasks": 4}}, r"\.neuromodulators\['reward'\]\(tasks=4\)"),
    ("dfa", {"neuromodulator": {"scale": 0.1}}, r"write neurosbd\.neuromodulators\['fixed_random'\]\(scale=0\.1\)"),
    ("sbd", {"neuromodulator": "reward"}, r"got 'reward'; write neurosbd\.neuromodulators\['reward'\]\(\)$"),
    ("sbd", {"neuromodulator": "rewards"}, r"neuromodulator: there is no 'rewards'; did you mean 'reward'"),
    ("sbd", {"neuromodulator": "none"}, r"for none at all give None$"),
    ("sbd", {"plasticity": ThreeFactor}, r"got ThreeFactor; write neurosbd\.plasticities\['three_factor'\]\(\)$"),
    ("sbd", {"homeostasis": ("power",)}, r"homeostasis: must be made, got 'power'; write neurosbd\.homeostases\['po"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "parts", "message"), UNMADE)
def test_what_is_not_made_yet_is_told_how(rule: str, parts: dict[str, Any], message: str) -> None:
    """Names, tables of constants and classes, in Python. Must fail when the first entry is shown (tried)."""
    with pytest.raises(ValueError, match=message):
        neurosbd.rules[rule](**parts)


def test_what_waits_at_a_map_takes_one_third_factor_for_all_units() -> None:
    """The eligibility of a kernel is made of many pairs: a third factor of each unit is refused before anything runs, a
    reward is not. Must fail when nobody asks what the neuromodulator sends (tried: as it was)."""
    neurons, conv = neurosbd.neurons, neurosbd.connections["conv2d"](kernel=3)
    populations = [
        neurosbd.Population("input", (1, 4, 4), None),
        neurosbd.Population("map", (2, 2, 2), neurons["lif"]()),
        neurosbd.Population("output", (3,), neurons["li"]()),
    ]
    connections = [
        neurosbd.Connection("input", "map", conv),
        neurosbd.Connection("map", "output", neurosbd.connections["dense"]()),
    ]
    network = neurosbd.Network(populations, connections, torch.Generator().manual_seed(0))
    waiting = neurosbd.plasticities["rewarded_spike_timing"]()
    for name, channels in (("fixed_random", {}), ("reward", {"channels": 2})):
        modulator = neurosbd.neuromodulators[name](**channels)
        rule = neurosbd.rules["local"](plasticity=waiting, neuromodulator=modulator)
        with pytest.raises(ValueError, match=r"'input->map': what waits .* one third factor for all units, but"):
            neurosbd.learner(network, rule, "cross_entropy")
    rule = neurosbd.rules["local"](plasticity=waiting, neuromodulator=neurosbd.neuromodulators["reward"]())
    neurosbd.learner(network, rule, "cross_entropy")


def test_constants_stay_where_another_rule_has_them() -> None:
    """Must fail when all of a table stays, or nothing (tried)."""
    table = {"kind": "sbd", "delay": 2, "neuromodulator": {"scale": 0.1, "forgetting": 0.9}, "expansion": ["gated"]}
    assert carried_over(table, "dfa") == {"delay": 2, "neuromodulator": {"scale": 0.1}}
    assert carried_over(table, "ebd") == {k: v for k, v in table.items() if k != "kind"}
    assert carried_over(table, "sbd") == table and carried_over(table, "bp") == {}
    assert carried_over({"neuromodulator": {"kind": "reward"}}, "dfa") == {}
    assert carried_over({"kind": "mono_forward", "answers": "heads"}, "forward_forward") == {}  # of other words
    rewarded = {"kind": "rstdp", "readout": "rule", "neuromodulator": {"tasks": 4}, "plasticity": {"tau_e": 0.2}}
    assert carried_over(rewarded, "rmax") == {k: v for k, v in rewarded.items() if k != "kind"}
    assert carried_over(rewarded, "sbd") == {} and carried_over(rewarded, "stdp") == {"readout": "rule"}


def test_abilities_are_declared() -> None:
    assert LocalRule(ThreeFactor(), Reward()).rewarded and not LocalRule(ThreeFactor(), FixedRandom()).rewarded
    assert LocalRule(SpikeTiming()).states_changes and LocalRule(SpikeTiming()).bounds == (-1.0, 1.0)
    assert LocalRule(RewardedSpikeTiming(), Reward()).bounds == (-1.0, 1.0) and LocalRule().bounds is None


def test_the_optimizer_suits_the_plasticity_that_was_chosen(tmp_path: Path) -> None:
    """Must fail when only the name of the rule is looked at (tried)."""
    bare = tmp_path / "bare.toml"
    bare.write_text(
        """
connection = [{ pre = "input", post = "output", kind = "dense" }]
[population]
input.size = [64]
output = { size = [10], neuron = "lif" }
[rule]
plasticity = "rewarded_spike_timing"
neuromodulator = "reward"
"""
    )
    definition = neurosbd.load_model(bare)
    assert definition.rule.kind == "sbd" and definition.training.optimizer.kind == "sgd"
    assert neurosbd.load_model(bare, settings={"rule.plasticity": "three_factor"}).training.optimizer.kind == "adam"


def test_constants_that_are_no_parts_are_told_where_they_belong() -> None:
    with pytest.raises(ValueError, match=r"a rule has no part 'scale'.*legal: plasticity.*\(scale=0.1\)"):
        neurosbd.rules["sbd"](scale=0.1)


@pytest.mark.parametrize("name", NEURONS)
def test_the_constants_of_every_neuron_are_written_down(name: str) -> None:
    """Without a word, which is an error here: must fail when one that may be left out is none of its type (tried)."""
    definition = neurosbd.load_model("digits-snn", settings={"population.hidden1.neuron": name})
    kept = definition.model_dump(mode="json")
    assert kept["population"]["hidden1"]["neuron"]["kind"] == name

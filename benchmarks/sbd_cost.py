"""Cost of every option of score broadcast, as ratios to backprop in one run.

    python benchmarks/sbd_cost.py [--json] [--models cifar10-cnn cifar10-mlp] [--repeats 100] [--threads 1] [--only ...]

The options are those of the tables: every layout of the projection, every expansion of the score, every homeostasis
and upkeep with its default constants, besides several functions of the activity, the forward broadcast, a fading R0 and
normalised and standardised drives of all hidden populations. Each is set alone, on the model's own recipe, but for
two expansions together and both entropies together; `sbd` is that recipe. `sbp` is another rule, with its default
layout, `grid`, and with every layout by name. What is for networks that run for many steps (delays, filtered activity,
eligibilities per synapse) is not here. Targets are random: labels, or values that the loss of the model allows, so that
`waves` has its row with `--models spike-counts-mlp`. What a loss does not admit is left out, with the reason.

Same network, loss, batch, optimizer and memory layout; all take turns within one process, after a warm-up. The ratio is
the median over the turns to that of backprop, with the quartiles of the ratios of the single turns; `mean` is the
ratio of the whole times, which has in it what happens only once in some batches (an inverse that is renewed; in 100
turns, once); `more` is the whole time less that of sbd, as a part of that of sbd.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import torch
from step_cost import Step
from torch import Tensor
from turns import in_turns, ratios

from neurosbd.allocator import keep_freed_memory
from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.expansions import EXPANSIONS
from neurosbd.losses.targets import CLASSES
from neurosbd.network.network import INPUT
from neurosbd.neuromodulators import LAYOUTS
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.runs.machine import provenance
from neurosbd.seeds import generator

PLAIN = {"bp": ("bp", {}), "dfa": ("dfa", {}), "sbd": ("sbd", {}), "sbp": ("sbp", {})}
FUNCTIONS = (("identity", "square"), ("identity", "tanh"), ("identity", "cosine", "sine"))
ALL_WEIGHTS = {"kind": "weight_entropy", "on": "all"}
Chosen = dict[str, tuple[str, dict[str, Any]]]  # name -> rule and settings


def options(model: str) -> Chosen:
    """All of them."""
    return dict(PLAIN) | of_rule() | of_units(model)


def of_rule() -> Chosen:
    """What the rule can be told."""
    found: dict[str, dict[str, Any]] = {f"layout {name}": {"rule.neuromodulator.layout": name} for name in LAYOUTS}
    found |= {f"expansion {name}": {"rule.expansion": [name]} for name in EXPANSIONS}
    found["expansion gated, bartlett"] = {"rule.expansion": ["gated", "bartlett"]}
    found |= {f"activations {', '.join(names)}": {"rule.neuromodulator.activations": names} for names in FUNCTIONS}
    found |= {f"homeostasis {name}": {"rule.homeostasis": [name]} for name in HOMEOSTASES}
    found |= {f"upkeep {name}": {"rule.upkeep": [name]} for name in UPKEEPS}
    found["upkeep weight_entropy, all"] = {"rule.upkeep": [ALL_WEIGHTS]}
    found["both entropies"] = {"rule.homeostasis": ["layer_entropy"], "rule.upkeep": ["weight_entropy"]}
    found["forward broadcast"] = {"rule.forward_broadcast": 0.1}
    found["fading"] = {"rule.neuromodulator.fading": 0.9}
    layouts: Chosen = {f"sbp, layout {name}": ("sbp", {"rule.neuromodulator.layout": name}) for name in LAYOUTS}
    return {name: ("sbd", settings) for name, settings in found.items()} | layouts


def of_units(model: str) -> Chosen:
    """What the hidden populations can be told."""
    populations = load_model(model).population
    hidden = [name for name in list(populations)[:-1] if name != INPUT]
    found: Chosen = {}
    for over in ("population", "channels"):
        neuron = {"kind": "normalised", "over": over}
        found[f"normalised over {over}"] = ("sbd", {f"population.{name}.neuron": neuron for name in hidden})
    for rule in ("bp", "sbd", "sbp"):
        found[f"standardised, {rule}"] = (rule, {f"population.{name}.neuron": "standardised" for name in hidden})
    return found


def legal(step: Step, model: str) -> Tensor:
    """Random targets of the loss of a model: the labels of the step, or values [B, k]."""
    definition = load_model(model)
    loss = definition.loss.build()
    if loss.targets is CLASSES:
        return step.target
    drawn = generator(0, "y")
    support = loss.targets.support(definition.output_size()[0] // loss.parameters, drawn)
    return support[torch.randint(len(support), (step.batch_size,), generator=drawn)].float().to(step.device)


def prepared(model: str, chosen: Chosen, asked: argparse.Namespace, device: torch.device) -> dict[str, Step]:
    """A warm step per option; options that the loss does not admit are left out."""
    steps = {}
    for name, (rule, settings) in chosen.items():
        try:
            step = Step(model, rule, device, asked.batch_size, settings)
            step.target = legal(step, model)
            for _ in range(3):
                step()
            steps[name] = step
        except ValueError as problem:
            if name in PLAIN:
                raise
            print(f"{model}, {name}: left out, {problem}", file=sys.stderr)
    return steps


def measure(model: str, asked: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """One model: all options in turns."""
    chosen = options(model)
    if asked.only:
        chosen = {name: v for name, v in chosen.items() if name in PLAIN or any(word in name for word in asked.only)}
    steps = prepared(model, chosen, asked, device)
    times = in_turns(steps, asked.repeats, 0, Step.timed)  # warm since they were prepared
    rows = []
    for name, taken in times.items():
        rows.append(
            {
                "model": model,
                "batch_size": steps[name].batch_size,
                "option": name,
                "ms": 1e3 * statistics.median(taken),
                **ratios(taken, times["bp"]),
                "mean_ratio": sum(taken) / sum(times["bp"]),
                "more_than_sbd": sum(taken) / sum(times["sbd"]) - 1,
            }
        )
    return rows


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cifar10-cnn"])
    parser.add_argument("--only", nargs="+", help="words of the options that are wanted, besides bp, dfa, sbd and sbp")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--batch-size", type=int, help="default: that of each model's recipe")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    keep_freed_memory()  # as `neurosbd fit` does
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    try:
        rows = [row for model in asked.models for row in measure(model, asked, device)]
    except UsageError as problem:
        sys.exit(str(problem))
    told = provenance(device)
    if asked.json:
        print(json.dumps({"rows": rows, **told}, indent=1))
        return
    print(f"torch {told['versions']['torch']}, {told['device']}, {told['threads']} threads")
    print(f"{'model':<20}{'batch':>6}  {'option':<36}{'ms':>8}{'of bp':>8}{'quartiles':>12}{'mean':>8}{'more':>8}")
    for row in rows:
        low, high = row["ratio_quartiles"]
        print(
            f"{row['model']:<20}{row['batch_size']:>6}  {row['option']:<36}{row['ms']:>8.2f}{row['ratio']:>8.3f}"
            f"{low:>7.2f}-{high:.2f}{row['mean_ratio']:>8.3f}{row['more_than_sbd']:>8.1%}"
        )


if __name__ == "__main__":
    main()

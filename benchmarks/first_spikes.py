"""Readouts of first spikes on features that STDP has learned: what they carry, and what each readout makes of it.

    python benchmarks/first_spikes.py [--train 500] [--test 200] [--epochs 2] [--seed 0] [--features RUN] [--out DIR]
                                      [--set KEY=VALUE ...]

Trains `mnist-stdp-features` on so many images of each class, or takes a run of it; shows all images to it once, and
trains readouts on the times of first spikes of `pooled`, which stay as they are whatever a readout learns. So a readout
meets the spikes that it would meet in `neurosbd fit mnist-stdp-readout --from RUN`, and no image is shown twice.

- thresholds and winners: how many channels have moved from where they started, and where thresholds have come to;
- least squares: test accuracy of a ridge regression of the classes on 1 - time, the best of four penalties: what a
  linear readout could make of the features;
- S2-STDP, pairs (PCN) and groups (NCG): equal images, epochs, batches and order, the constants of the models.

Kernels are written to `kernels.png` in the folder of the run, ON in orange, OFF in blue.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import neurosbd
from neurosbd.config.resolve import parse_settings
from neurosbd.encoders import encode
from neurosbd.rules.first_spikes import threshold_of

CONSTANTS: dict[str, Any] = {
    "rule.gap": 0.04, "rule.a_plus": 0.05, "rule.a_minus": 0.05, "training.batch_size": 20,
    "training.optimizer.lr": 20.0,
}  # fmt: skip
READOUTS: dict[str, dict[str, Any]] = {
    "S2-STDP": {},
    "PCN": {"rule.units_per_class": 2, "rule.others": 1, "population.output.size": [20]},
    "NCG": {
        "rule.units_per_class": 5, "rule.others": 1, "rule.threshold_rate": 3.0, "rule.annealing": 0.5,
        "population.output.size": [50],
    },
}  # fmt: skip


def first_spike_times(run: neurosbd.Run, values: Tensor, batch: int = 50) -> Tensor:
    """Of `pooled`, in steps, [N, units]; as many as the trial has where a unit is silent."""
    network, definition = run.network(), run.definition
    encoder, steps = definition.build().encoder, definition.time.steps
    found = []
    for images in values.split(batch):
        there = torch.full((len(images), *network.populations["pooled"].size), float(steps))

        def look(t: int, frame: Any, there: Tensor = there) -> None:
            spiked = frame.activity["pooled"].value > 0
            there.masked_fill_(spiked & (there == steps), float(t))

        neurosbd.unroll(network, encode(encoder, images, steps, network.dt), [look])
        found.append(there.flatten(1))
    return torch.cat(found)


def as_pictures(times: Tensor, steps: int) -> Tensor:
    """Pictures [N, 1, 1, units] whose latencies in so many steps are these times; 0 where a unit is silent."""
    value = (255 * (1 - (times + 0.5) / steps)).round()
    return value.masked_fill(times >= steps, 0).to(torch.uint8)[:, None, None]


def normalised(data: Any, values: Any) -> Tensor:
    """Pictures as the network sees them, [N, channels, height, width]."""
    x = torch.from_numpy(values).movedim(-1, 1).float() / 255
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (data.mean, data.std))
    return (x - mean) / std


def least_squares(x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Test accuracy of ridge regression on centred inputs, the best of four penalties, %."""
    middle = x.mean(0)
    x, test_x = x - middle, test_x - middle
    wanted = torch.nn.functional.one_hot(y).double() - 0.1
    gram, over = (x @ x.t()).double(), (test_x @ x.t()).double()
    best = 0.0
    for penalty in (1.0, 10.0, 100.0, 1000.0):
        gain = torch.linalg.solve(gram + penalty * torch.eye(len(x), dtype=torch.float64), wanted)
        best = max(best, ((over @ gain).argmax(1) == test_y).double().mean().item())
    return 100 * best


def draw(kernels: Tensor, path: Path) -> None:
    """All kernels [channels, 2, k, k] side by side, ON orange, OFF blue."""
    from matplotlib import pyplot

    columns = 16
    rows = -(-len(kernels) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(columns / 2, rows / 2), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (on, off) in zip(axes.flat, kernels.clamp(0, 1), strict=False):
        axis.imshow(torch.stack((1 - off, 1 - (on + off) / 2, 1 - on), -1).numpy())
    figure.savefig(path, dpi=100)


def features(asked: argparse.Namespace) -> neurosbd.Run:
    """A run that has learned features, or the one that was asked for."""
    if asked.features:
        return neurosbd.open_run(asked.features)
    settings = {"data.subset": asked.train, "data.test_subset": 1, "seed": asked.seed, **parse_settings(asked.set)}
    return neurosbd.fit("mnist-stdp-features", settings=settings, out=asked.out / "features")


def told(run: neurosbd.Run) -> str:
    """How many channels have learned, and where their thresholds are."""
    start, network = run.definition.network(), run.network()
    moved = network.weights["retina->features"].detach() - start.weights["retina->features"].detach()
    alive = int((moved.abs().amax((1, 2, 3)) > 0).sum())
    text = f"{alive} of {len(moved)} channels have learned"
    if "features" in network.adaptive:
        threshold = network.moments("features").threshold
        text += f", thresholds {threshold.min():.1f} to {threshold.max():.1f}"
    return text


def main() -> None:
    """A line for the features, a line for each readout."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--train", type=int, default=500, help="images per class")
    parser.add_argument("--test", type=int, default=200, help="test images per class")
    parser.add_argument("--epochs", type=int, default=2, help="of the readouts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", help="a run of mnist-stdp-features; default: train one")
    parser.add_argument("--out", type=Path, default=Path("runs/first-spikes"))
    parser.add_argument("--readouts", nargs="+", default=list(READOUTS), choices=list(READOUTS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of mnist-stdp-features")
    parser.add_argument("--set-readout", action="append", default=[], metavar="KEY=VALUE", help="of the readouts")
    asked = parser.parse_args()
    run = features(asked)
    draw(run.network().weights["retina->features"].detach(), run.path / "kernels.png")
    data = neurosbd.load_data("mnist", subset=asked.train, test_subset=asked.test)
    steps = run.definition.time.steps
    times = [first_spike_times(run, normalised(data, split.values)) for split in (data.train, data.test)]
    labels = [torch.from_numpy(split.targets).long() for split in (data.train, data.test)]
    spiking = (times[0] < steps).float().mean().item()
    sent = [1 - each / steps for each in times]
    linear = least_squares(sent[0], labels[0], sent[1], labels[1])
    print(f"{told(run)}; {spiking:.0%} of pooled units spike; least squares {linear:.1f} %", flush=True)
    pictures = [(as_pictures(t, steps), y) for t, y in zip(times, labels, strict=True)]
    common = {
        "population.input.size": list(pictures[0][0].shape[1:]), "time.steps": steps, "training.epochs": asked.epochs,
        "data.encoder": {"kind": "latency", "duration": steps * 1e-3}, "seed": asked.seed,
    }  # fmt: skip
    output = neurosbd.load_model("mnist-stdp-readout").network().populations["output"]
    own = {"population.output.neuron.v_threshold": threshold_of(output).item()}
    for name in asked.readouts:
        settings = common | own | CONSTANTS | READOUTS[name] | parse_settings(asked.set_readout)
        found = neurosbd.fit("mnist-s2stdp", data=tuple(pictures), settings=settings, out=asked.out / name)
        said = ", ".join(f"{100 * line['test_accuracy']:.1f}" for line in found.metrics)
        print(f"{name}: test accuracy after each epoch {said} %", flush=True)


if __name__ == "__main__":
    main()

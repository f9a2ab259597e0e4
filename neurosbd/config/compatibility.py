"""Do a definition and what it is trained on fit? Asked before anything is written."""

import numpy as np
import torch

from neurosbd.answers import ANSWERS
from neurosbd.config.definition import Definition, Experiment, TrainingSpec
from neurosbd.config.hearing import check_heard
from neurosbd.config.timing import check_timing
from neurosbd.datasets.load import Dataset
from neurosbd.errors import UsageError, warn
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizers import beyond_scaling
from neurosbd.losses import LOSSES, CustomLoss, Described
from neurosbd.losses.targets import CLASSES, REALS
from neurosbd.network.populations import INPUT
from neurosbd.neuromodulators import Reward
from neurosbd.neurons import Standardised
from neurosbd.seeds import generator
from neurosbd.tasks import Protocol, Task

_MOST_LABELS = 1000  # different values, beyond which they are hardly classes


def check_wired(experiment: Experiment) -> None:
    """Refuse a network that cannot be shown examples: without an input, or with a population that hears nobody.

    Raises:
        UsageError: naming the population.
    """
    definition, there = experiment.definition, [population.name for population in experiment.populations]
    if INPUT not in there:
        raise UsageError(
            f"{definition.name}: no population is called '{INPUT}', to which examples are shown; there are "
            f"{', '.join(there)}. A network that runs by itself has [simulation] in place of data: neurosbd simulate"
        )
    deaf = [name for name, onto in experiment.network.incoming.items() if not onto]
    if deaf:
        raise UsageError(f"{definition.name}: population '{deaf[0]}' has no incoming connection; connect it")


def check_task(experiment: Experiment, task: Task) -> None:
    """Refuse a task whose sizes are not those of the definition, or whose times are no steps of it.

    Raises:
        UsageError: with both sizes, or the times near it.
    """
    check_wired(experiment)
    definition = experiment.definition
    inputs, outputs = task.sizes()
    asked = {"input": (definition.input_size(), (inputs,)), "readout": (definition.output_size(), (outputs,))}
    for what, (there, wanted) in asked.items():
        if there != wanted:
            raise UsageError(
                f"{definition.name}: the {what} has size {list(there)}, but the task needs {list(wanted)}; set its size"
            )
    try:
        task.steps(definition.time.dt)
    except ValueError as problem:
        raise UsageError(f"{definition.name}: {problem}") from None
    check_heard(experiment)


def protocol_loss(experiment: Experiment, protocol: Protocol) -> Described | None:
    """The loss that judges the trials of a protocol; None: nobody does.

    Raises:
        ValueError: if it is not that of the definition, or times of the protocol are no whole steps.
    """
    wanted, named = protocol.extent(experiment.network.dt).loss, experiment.definition.loss_name
    if wanted is not None and wanted != named:
        raise ValueError(f"the trials of this protocol are judged by loss '{wanted}', got '{named}'; set loss to it")
    return None if wanted is None else experiment.loss


def check_protocol(experiment: Experiment, protocol: Protocol) -> None:
    """Refuse a protocol that cannot be carried out on its network by its rule, and say what it does not use.

    Raises:
        UsageError: with what is wanted.
    """
    check_wired(experiment)
    definition, network = experiment.definition, experiment.network
    try:
        protocol.check(network, experiment.rule)
        Learner(network, experiment.rule, protocol_loss(experiment, protocol), generator(definition.seed, "protocol"))
    except ValueError as problem:
        raise UsageError(f"{definition.name}: {problem}") from None
    _check_schedule(definition, protocol)
    check_optimizer(experiment)
    check_heard(experiment)
    _say_unused(definition, "a protocol")


def _check_schedule(definition: Definition, protocol: Protocol) -> None:
    """Rates move from trial to trial, which must follow one another, and learn by the rule of the experiment."""
    schedule = definition.training.schedule.kind
    learning = [stage for stage in protocol.stages(definition.time.dt) if stage.learns and stage.teaching is None]
    if schedule != "constant" and (not learning or any(stage.anew for stage in learning)):
        assert definition.protocol is not None
        reason = (
            "begins anew, so that each would be measured at another rate" if learning else "leaves weights as they are"
        )
        raise UsageError(
            f"{definition.name}: training.schedule = '{schedule}' moves the rates of learning from trial to trial, but "
            f"every trial of protocol '{definition.protocol.kind}' {reason}; leave it out"
        )


def _say_unused(definition: Definition, who: str, learns: bool = True) -> None:
    """Warn of what is set for a training and has no meaning for an experiment without batches of examples."""
    unused = (
        "epochs", "batch_size", "batches", "test_batches", "clip_norm", "stop", "graph", "pruning", "least_score",
        "speculation",
    )  # fmt: skip
    changed = [key for key in unused if getattr(definition.training, key) != TrainingSpec.model_fields[key].default]
    changed += ["schedule"] if definition.training.schedule.kind != "constant" and not learns else []
    if changed:
        warn(f"{definition.name}: {who} does not use {', '.join(f'training.{key}' for key in changed)}")


def say_no_examples(definition: Definition) -> None:
    """Warn of what is said of the examples of a data set, where a task or protocol makes its own trials."""
    asked = definition.task or definition.protocol
    unused = [f"time.{key}" for key in ("steps", "scored", "warmup") if key in definition.time.model_fields_set]
    unused += [f"data.{key}" for key in sorted(definition.data.model_fields_set)]
    if asked is not None and unused:
        warn(f"{definition.name}: '{asked.kind}' makes its own trials and does not use {', '.join(unused)}")


def check_free(experiment: Experiment, plastic: bool) -> None:
    """Refuse a free run under a rule that nobody would tell anything, and say what it does not use.

    Args:
        experiment: with a simulation.
        plastic: whether weights move.
    Raises:
        UsageError: with rules that need nobody.
    """
    definition, rule = experiment.definition, experiment.rule
    if plastic and rule.scored:
        raise UsageError(
            f"{definition.name}: rule '{definition.rule.kind}' waits for the score of a loss, which nothing gives in a "
            f"free run; set rule = 'stdp', or plastic = false for every connection"
        )
    _check_rewards(experiment, plastic)
    if plastic:
        check_optimizer(experiment)
        check_heard(experiment)
    _say_unused(definition, "a free run" if plastic else "a free run in which nothing learns", plastic)
    untimed = [key for key in ("steps", "scored", "warmup") if key in definition.time.model_fields_set]
    if untimed:
        warn(f"{definition.name}: a free run does not use {', '.join(f'time.{key}' for key in untimed)}")


def _check_rewards(experiment: Experiment, plastic: bool) -> None:
    """Refuse rewards that nobody hears and a rule that hears none; warn of an expectation that takes them away."""
    definition, rule, given = experiment.definition, experiment.rule, experiment.reinforcements
    name = f"{definition.name}: rule '{definition.rule.kind}'"
    if plastic and rule.rewarded and not given:
        raise UsageError(
            f"{name} waits for rewards, which nothing gives; add [[reward]] kind = 'spike_count', population = ..., "
            f"say (docs/free-runs.md), or set rule = 'stdp'"
        )
    if given and not (plastic and rule.rewarded):
        who = name if plastic else f"{definition.name}: no connection is plastic, and a network that does not learn"
        raise UsageError(f"{who} hears no rewards; set rule = 'rstdp', say, or leave [[reward]] out")
    modulator = next(iter(rule.parts().get("neuromodulators", ())), None)
    if given and isinstance(modulator, Reward):
        if modulator.channels > 1:
            raise UsageError(
                f"{name}: rule.neuromodulator.channels = {modulator.channels}, but [[reward]] gives one; set it to 1"
            )
        if modulator.baseline > 0 and modulator.expects == "step":
            within = definition.time.dt / modulator.baseline
            warn(
                f"{name} expects what the rewards of the last {within:g} s were, and learns from what is more than "
                f"that; if the rewards are meant as they are: rule.neuromodulator.baseline = 0.0"
            )


def check_optimizer(experiment: Experiment) -> None:
    """Warn where a rule states by how much its weights change and the optimizer would do more than scale that."""
    definition, rule = experiment.definition, experiment.rule
    own = next((c.name for c in experiment.connections if getattr(c.plasticity, "states_changes", False)), None)
    if not rule.states_changes and own is None:
        return
    who = f"rule '{definition.rule.kind}'" if own is None else f"the plasticity of connection '{own}'"
    more = beyond_scaling(experiment.optimizer)
    if definition.training.clip_norm is not None and definition.protocol is None and definition.simulation is None:
        more.append("training.clip_norm shrinks all changes whenever some are large")
    if more:
        warn(
            f"{definition.name}: {who} states by how much a weight changes, but "
            f"{'; '.join(more)}. If that is not meant: training.optimizer = {{ kind = 'sgd' }}, whose lr scales "
            f"each change and no more"
        )


def check_fit(experiment: Experiment, data: Dataset) -> None:
    """Refuse a data set that the network, loss, rule or augmentation of a definition cannot work on.

    Raises:
        UsageError: with what is there, what is wanted, and the setting that makes it fit.
    """
    check_wired(experiment)
    definition = experiment.definition
    size = definition.input_size()
    if size != data.size:
        raise UsageError(
            f"{definition.name}: the input population has size {list(size)}, but the examples of '{data.name}' are "
            f"{list(data.size)}; choose a model for them or set population.input.size = {list(data.size)}"
        )
    _check_teacher(experiment, data)
    _check_loss(experiment, data)
    _check_readout(experiment, data)
    _check_answer(experiment, data)
    _check_augmentation(definition, data)
    _check_batch(experiment, len(data.train))
    _check_delay(experiment)
    check_timing(experiment, data)
    check_heard(experiment)


def fitting(data: Dataset) -> list[str]:
    """Names of the losses for which every target of a data set is legal."""
    return [name for name, make in LOSSES.items() if _legal(make(), data)]


def _legal(loss: Described, data: Dataset) -> bool:
    if data.kind != "classes":
        targets = (torch.from_numpy(samples.targets) for samples in data.splits.values())
        seen = (y if loss.targets is REALS else y.float() for y in targets)  # only reals are standardised before
        return loss.targets is not CLASSES and all(bool(loss.targets.allows(y).all()) for y in seen)
    try:  # a loss for values may take labels as well, as one-hot rows
        loss.per_example(torch.zeros(2, 2 * loss.parameters), torch.tensor([0, 1]))
    except UsageError:
        return False
    return True


def _check_teacher(experiment: Experiment, data: Dataset) -> None:
    """A rule that learns from classes has nothing to learn from in values to predict."""
    definition, rule = experiment.definition, experiment.rule
    if data.kind == "classes" or not (rule.rewarded or rule.labelled):
        return
    needs, others = "learns from labels of classes", "sbd, sbp, dfa, mono_forward or bp"
    if rule.rewarded:
        needs, others = "is rewarded for the right class", "sbd, ebd, sbp, dfa, eprop or bp"
    raise UsageError(
        f"{definition.name}: rule '{definition.rule.kind}' {needs}, but '{data.name}' has values to predict; choose a "
        f"rule that is sent the score: {others}"
    )


def _check_loss(experiment: Experiment, data: Dataset) -> None:
    definition, loss = experiment.definition, experiment.loss
    if data.kind == "classes" and isinstance(loss, CustomLoss):
        return  # whatever it makes of labels, its trial on the readout will say what is wrong
    if not _legal(loss, data):
        there = "classes" if data.kind == "classes" else f"values to predict ({data.kind})"
        raise UsageError(
            f"{definition.name}: loss '{definition.loss_name}' wants {loss.targets.legal}, but "
            f"'{data.name}' has {there}; losses that fit: {', '.join(fitting(data))}{_likely_labels(data)}"
        )


def _check_readout(experiment: Experiment, data: Dataset) -> None:
    definition, loss = experiment.definition, experiment.loss
    output, name = definition.output_size(), definition.readout
    needed, units = loss.parameters * data.outputs, experiment.rule.units_per_class
    if output != (needed * units,):
        what = "classes" if data.kind == "classes" else f"value{'s' if data.outputs > 1 else ''} to predict"
        if experiment.rule.loss is not None and units == 1:
            raise UsageError(
                f"{definition.name}: rule '{definition.rule.kind}' is that of loss '{definition.loss_name}', which "
                f"needs {needed} output{'s' if needed > 1 else ''} for the {data.outputs} {what} of '{data.name}', but "
                f"the readout has size {list(output)}; set population.{name}.size = [{needed}], or choose rule 'sbd', "
                f"which takes any loss{_stray(data) if data.kind == 'classes' else ''}"
            )
        each = f", for each of which loss '{definition.loss_name}' needs {loss.parameters} outputs"
        competing = f", with rule.units_per_class = {units} each" if units > 1 else ""
        raise UsageError(
            f"{definition.name}: the readout has size {list(output)}, but '{data.name}' has {data.outputs} {what}"
            f"{each if loss.parameters > 1 else ''}{competing}; set population.{name}.size = [{needed * units}]"
            f"{_stray(data) if data.kind == 'classes' else _likely_labels(data)}"
        )
    some = torch.from_numpy(data.train.targets[: needed + 1])  # as many as no shape is likely to be taken for another
    some = some.float() if some.is_floating_point() else some
    try:  # options of the loss, such as a weight per class, and whatever a user's own may raise
        loss.per_example(torch.zeros(len(some), needed), some)
    except UsageError as problem:
        raise UsageError(f"{definition.name}: loss '{definition.loss_name}': {problem}") from None


def _likely_labels(data: Dataset) -> str:
    """What to say of values to predict that look like labels in another shape."""
    values = np.concatenate([samples.targets for samples in data.splits.values()])
    if data.kind != "classes" and values.shape[1] > 1 and _one_hot(values):
        return ". Every target is a single 1 among 0s: if that marks a class, give labels [N], such as y.argmax(1)"
    if data.kind == "classes" or values.shape[1] != 1 or (values != np.round(values)).any() or values.min() < 0:
        return ""
    different = len(np.unique(values))
    if different > _MOST_LABELS:
        return ""
    return (
        f". Its targets are {different} different whole numbers, {values.min():g} to {values.max():g}: if they are "
        f"labels, give integers [N], such as y.astype(int).ravel(); labels in a .npz, a column 'label' in a .csv"
    )


def _one_hot(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())


def _stray(data: Dataset) -> str:
    """What to say of a class that has hardly any example beside the others, as a stray label makes one."""
    count = np.bincount(np.concatenate([samples.targets for samples in data.splits.values()]), minlength=data.outputs)
    rare = np.flatnonzero((count > 0) & (count * 10 < np.median(count[count > 0])))
    if not len(rare):
        return ""
    each = ", ".join(f"'{data.classes[c]}' has {count[c]:,}" for c in rare[:5])
    return f". Of {count.sum():,} examples class {each}: if that label is a mistake, leave these examples out"


def _check_batch(experiment: Experiment, examples: int) -> None:
    """A unit that is standardised over the batch says nothing about the only example of a batch; a batch of more
    examples than there are is one of all, which is said.
    """
    definition = experiment.definition
    if definition.training.batch_size > examples:
        warn(
            f"{definition.name}: training.batch_size is {definition.training.batch_size:,}, but there are {examples:,} "
            f"training examples: an epoch is one batch of them all, a single step of learning; make it smaller for more"
        )
    if definition.training.batch_size > 1:
        return
    for population in experiment.populations:
        if isinstance(population.neuron, Standardised) and population.named_axes.places == 1:
            raise UsageError(
                f"{definition.name}: population '{population.name}' is standardised over the batch, but "
                f"training.batch_size is 1; set it to 2 or more, or choose another neuron, such as 'normalised'"
            )


def _check_delay(experiment: Experiment) -> None:
    """A third factor that comes after the end of a trial teaches nothing."""
    definition, rule, time = experiment.definition, experiment.rule, experiment.definition.time
    longest = 0 if rule.rewarded else time.steps - 1 - time.first_scored  # the reward comes at the end
    if rule.delay > longest:
        raise UsageError(
            f"{definition.name}: rule.delay is {rule.delay}, but {longest} of the {time.steps} steps of an example "
            f"come after its first score, so that no hidden synapse would learn; set rule.delay to at most {longest}"
        )


def _check_augmentation(definition: Definition, data: Dataset) -> None:
    asked = definition.data
    moved = asked.flip or asked.crop
    if moved and data.kind != "classes":
        raise UsageError(
            f"{definition.name}: data.flip and data.crop keep the class of an image, but '{data.name}' has values to "
            f"predict, which may change with it; remove them"
        )
    if moved and len(data.size) != 3:
        raise UsageError(
            f"{definition.name}: data.flip and data.crop need images, but '{data.name}' has features {list(data.size)}"
        )
    if data.duration and asked.encoder.kind != "constant":
        raise UsageError(
            f"{definition.name}: data.encoder is '{asked.encoder.kind}', but '{data.name}' consists of events, which "
            f"are binned as they are; remove data.encoder"
        )
    if data.duration and moved:
        raise UsageError(f"{definition.name}: data.flip and data.crop are for images; '{data.name}' consists of events")
    if asked.crop and asked.crop >= min(data.size[1:]):
        raise UsageError(f"{definition.name}: data.crop is {asked.crop}, but images are {data.size[1]}x{data.size[2]}")


def _check_answer(experiment: Experiment, data: Dataset) -> None:
    """A count of spikes or a maximum tells classes apart, but is no value in the units of the data."""
    definition, legal = experiment.definition, [name for name, make in ANSWERS.items() if make().keeps_units]
    if data.kind != "classes" and not experiment.answer.keeps_units:
        raise UsageError(
            f"{definition.name}: time.answer is '{definition.time.answer.kind}', which tells classes apart, but "
            f"'{data.name}' has values to predict; choose {' or '.join(map(repr, legal))}"
        )

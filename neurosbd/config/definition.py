"""What a TOML model file may say: the schema of a definition, and the experiment it describes, built."""

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from neurosbd.answers import ANSWERS, Answer
from neurosbd.config.pruning import PruningSpec, maskable
from neurosbd.config.simulation import LabellingSpec, ReinforcementEntry, SimulationSpec, StimulusEntry
from neurosbd.config.wiring import NESTED, Count, GeometryEntry, PopulationSpec
from neurosbd.connections.precision import Precision
from neurosbd.datasets.definition import Columns
from neurosbd.datasets.holdout import legal_share
from neurosbd.encoders import ENCODERS, Encoder
from neurosbd.errors import UsageError, nearest, warn
from neurosbd.files.library import path_component
from neurosbd.files.parsing import JsonTable
from neurosbd.learning.optimizers import OPTIMIZERS, OptimizerChoice
from neurosbd.learning.schedules import SCHEDULES, Schedule
from neurosbd.losses import LOSSES, CustomLoss, Described
from neurosbd.network.checks import check_declared, legal_name
from neurosbd.network.network import Network
from neurosbd.network.populations import INPUT, Connection, Population, Role, readout_of
from neurosbd.neurons.fused import is_fused
from neurosbd.plasticity import Window
from neurosbd.recording import Request
from neurosbd.rewards import REWARDS, Reinforcement
from neurosbd.rules import RULES, Rule
from neurosbd.schema.constants import Positive, Range, Whole
from neurosbd.schema.plugins import needed
from neurosbd.schema.schema import Entry, OneOf, Record, entries
from neurosbd.seeds import generator
from neurosbd.stimuli import STIMULI, Stimulation
from neurosbd.tasks import PROTOCOLS, TASKS, Protocol, Task
from neurosbd.text import html_table, one_line

Seed = Annotated[int, Range(least=0, most=2**63 - 1)]

StimulationEntry = Annotated[StimulusEntry, OneOf(STIMULI, NESTED, StimulusEntry)]
RewardEntry = Annotated[ReinforcementEntry, OneOf(REWARDS, NESTED, ReinforcementEntry)]


class RuleTable(Entry):
    """[rule]: its parts, and where its constants went when rules became compositions."""

    moved: ClassVar[Mapping[str, str]] = {
        **{key: f"rule.neuromodulator.{key}" for key in ("layout", "scale", "learned", "activations", "fading")},
        **{key: f"rule.neuromodulator.{key}" for key in ("forgetting", "own", "baseline", "tasks", "channels")},
        **{key: f"rule.plasticity.window.{key}" for key in (field.name for field in fields(Window))},
        **{key: f"rule.plasticity.{key}" for key in ("tau_e", "forward", "backward", "apical", "lateral", "memory")},
        "projection": "rule.neuromodulator.layout",
        "rate": "rule.neuromodulator.relative_rate, by the rate of the readout",
        "forgetting_end": "rule.neuromodulator.forgetting.end",
        "forgetting_shape": "rule.neuromodulator.forgetting.shape (without end it stays where it starts)",
        "expansion_forgetting": "rule.neuromodulator.expanded",
        "activity": "rule.activity_filter, in s (without it there is no filter)",
        "tau_activity": "rule.activity_filter, in s",
        "feedback": "rule.neuromodulator ('fixed_random', or 'transposed' for symmetric, 'following' for adaptive)",
    }


RuleEntry = Annotated[RuleTable, OneOf(RULES, NESTED, RuleTable)]
TaskEntry = Annotated[Entry, OneOf(TASKS)]
ProtocolEntry = Annotated[Entry, OneOf(PROTOCOLS)]
EncoderEntry = Annotated[Entry, OneOf(ENCODERS)]
AnswerEntry = Annotated[Entry, OneOf(ANSWERS)]
LossEntry = Annotated[Entry, OneOf(ChainMap({"custom": CustomLoss}, LOSSES))]
OptimizerEntry = Annotated[Entry, OneOf(OPTIMIZERS)]
ScheduleEntry = Annotated[Entry, OneOf(SCHEDULES)]


def _named(kind: str) -> Any:
    """Default of an entry: the one of that name with its own defaults."""
    return Field(default_factory=lambda: {"kind": kind}, validate_default=True)


class DataSpec(Record):
    """[data]."""

    name: str = "digits"  # a shipped dataset or a .toml file
    root: str | None = None  # folder with the files; none: NEUROSBD_DATA, then the download folder
    subset: Count | None = None  # training examples per class, or in all if there are no classes
    subset_seed: Seed | None = None  # none: the first ones; else drawn with this seed
    test_subset: Count | None = None  # test examples per class, or in all
    # training examples that are held out: a fraction, or how many in all; drawn with subset_seed, else the seed
    validation: Annotated[float | int | None, BeforeValidator(legal_share)] = None
    columns: Columns = ()  # of a table, that are read; "-NAME" leaves one out; none: all
    encoder: EncoderEntry = _named("constant")  # what the input population shows of a picture; events are binned
    flip: bool = False  # mirror every image in every other epoch
    crop: Whole = 0  # shift by up to so many pixels, reflecting the border


class TimeSpec(Record):
    """[time]."""

    dt: Annotated[float, Range(least=1e-9, unit="s")] = 1e-3
    steps: Annotated[int, Range(least=1, most=10_000_000)] = 1  # per example; rate networks need no more
    scored: Literal["every", "last"] = "every"  # which steps have a score to broadcast
    warmup: Whole = 0  # first steps without a score
    answer: AnswerEntry = _named("mean")  # how it is read off the steps that have one
    block: Count | None = None  # steps that are taken at once; none: as many as suit the memory
    fused: bool = False  # whether long steps of neurons are compiled, which takes seconds to begin with

    @model_validator(mode="after")
    def _some_step_is_scored(self) -> "TimeSpec":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup is {self.warmup}, but only {self.steps} steps are taken, so none would be scored")
        return self

    @property
    def first_scored(self) -> int:
        """Number of the first step that has a score; all after it have one too."""
        return self.steps - 1 if self.scored == "last" else self.warmup


def _selectable(metric: str) -> str:
    """A metric by which something may be chosen: one of the validation split."""
    if metric.startswith("test_"):
        raise ValueError(
            f"nothing may be selected on the test set, whose result would no longer be one on unseen data, got "
            f"'{metric}'; hold out a validation split (data.validation = 0.1) and take "
            f"'validation_{metric.removeprefix('test_')}'"
        )
    if not metric.startswith("validation_"):
        raise ValueError(f"must be a metric of the validation split, such as 'validation_loss', got '{metric}'")
    return metric


class StopSpec(Record):
    """[training.stop]: the training ends when the validation split has not been met better for some epochs."""

    metric: Annotated[str, AfterValidator(_selectable)] = "validation_loss"  # a key of metrics.jsonl
    patience: Count = 5  # epochs without a better value


class TrainingSpec(Record):
    """[training]."""

    epochs: Count = 10
    batch_size: Count = 32
    optimizer: OptimizerEntry = _named("adam")
    schedule: ScheduleEntry = _named("constant")
    rates: dict[str, Positive] = Field(default_factory=dict)  # population or connection -> factor on the learning rate
    clip_norm: Positive | None = None  # largest norm of the whole gradient
    batches: Count = 10  # per epoch, of a task, which has no end of its own
    test_batches: Count = 4  # of a task
    # batches, trials of a protocol or updates of a free run; besides the one after every epoch, or report
    checkpoint_every: Count | None = None
    stop: StopSpec | None = None  # none: all epochs are trained
    pruning: PruningSpec | None = None  # none: synapses stay
    least_score: Positive | None = None  # examples whose score is smaller at all outputs are not learned from
    speculation: Positive | None = None  # nearer than this to its score of before, a class has its last gradient again
    precision: Precision = "float32"  # of the operands of products with weights and of those that make gradients
    graph: bool = False  # on a GPU, whole batches are replayed as one graph of kernels; for networks bound by launches
    deterministic: bool = False  # only operations that give the same bits every time; on a CPU all here do


class RecordSpec(Record):
    """[record]."""

    signals: tuple[str, ...] = ()  # WHERE.WHAT[filters] each, see docs/traces.md
    limit: Positive = 2.0  # GB; a larger recording is not started

    @model_validator(mode="after")
    def _legible(self) -> "RecordSpec":
        for spec in self.signals:
            Request.parse(spec)
        return self


class Definition(Record):
    """A model and its training recipe, resolved: what `fit` carries out."""

    name: Annotated[str, AfterValidator(path_component)]  # the run directory is named after it
    about: str = ""
    source: str = ""
    seed: Seed = 0
    time: TimeSpec = TimeSpec()
    rule: RuleEntry = _named("sbd")
    loss: LossEntry = _named("cross_entropy")
    data: DataSpec = Field(default_factory=DataSpec)
    task: TaskEntry | None = None  # for `neurosbd simulate`: trials in place of data
    protocol: ProtocolEntry | None = None  # for `neurosbd simulate`: a measurement of its own
    simulation: SimulationSpec | None = None  # for `neurosbd simulate`: a free run under stimuli
    stimulus: tuple[StimulationEntry, ...] = ()
    labelling: LabellingSpec | None = None  # of units, after a free run under items of a data set
    reward: tuple[RewardEntry, ...] = ()
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    record: RecordSpec = RecordSpec()
    population: dict[Annotated[str, AfterValidator(legal_name)], PopulationSpec]
    connection: tuple[GeometryEntry, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_readout(cls, value: object) -> object:
        """The readout has its role, also where it can only be the last population and nothing says so."""
        if not isinstance(value, Mapping):
            return value
        there = value.get("population")
        if not isinstance(there, Mapping) or not all(isinstance(spec, Mapping) for spec in there.values()):
            return value
        roles = {str(name): spec.get("role") for name, spec in there.items()}
        if not roles.keys() - {INPUT}:
            return value
        wires = _wires(value.get("connection"), roles)
        legal = all(role in (*get_args(Role), None) for role in roles.values())  # else it is said of the role itself
        if value.get("simulation") is None and wires is not None and legal:
            check_declared(roles, wires)
        readout = readout_of(roles)
        return {**value, "population": {**there, readout: dict(there[readout], role="readout")}}

    def __repr__(self) -> str:
        asked = self.task or self.protocol
        shown = f"data {self.data.name}, {self.training.epochs} epochs" if asked is None else asked.kind
        shown = f"{self.simulation.duration:g} s" if self.simulation is not None else shown
        return one_line(
            f"Definition({self.name}: rule {self.rule.kind}, loss {self.loss_name}, {shown}, seed {self.seed})"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_table(self.name, self.model_dump(mode="json").items(), ("key", "value"))

    def build(self) -> "Experiment":
        """Every object that is described here; the only place where entries become objects."""
        return Experiment(
            definition=self,
            rule=self.rule.build(),
            loss=self.loss.build(),
            optimizer=self.training.optimizer.build(),
            schedule=self.training.schedule.build(),
            encoder=self.data.encoder.build(),
            answer=self.time.answer.build(),
            task=self.task.build() if self.task else None,
            protocol=self.protocol.build() if self.protocol else None,
            populations=tuple(
                Population(name, spec.size, spec.neuron and spec.neuron.build(), spec.axes, spec.role, spec.dropout)
                for name, spec in self.population.items()
            ),
            connections=tuple(
                maskable(c) if self.training.pruning else c
                for c in (entry.connection(self.training.precision) for entry in self.connection)
            ),
            stimulations=tuple(entry.stimulation() for entry in self.stimulus),
            reinforcements=tuple(entry.reinforcement() for entry in self.reward),
        )

    def network(self) -> Network:
        """The network with its initial weights, on the CPU.

        Raises:
            UsageError: if populations and connections do not fit together.
        """
        return self.build().network

    @property
    def loss_name(self) -> str:
        """That of LOSSES, or of a user's own."""
        return getattr(self.loss, "name", self.loss.kind)

    def plugins(self) -> dict[str, list[JsonTable]]:
        """The plugins that this definition needs, as config.json and checkpoints keep them; {} if there are none."""
        return needed(type(entry).make for entry in entries(self))

    def input_size(self) -> tuple[int, ...]:
        """Size of the input population."""
        return self.population[INPUT].size if INPUT in self.population else ()

    @property
    def readout(self) -> str:
        """Name of the population that is the readout; '' if there is none."""
        return next((name for name, spec in self.population.items() if spec.role == "readout"), "")

    def output_size(self) -> tuple[int, ...]:
        """Size of the readout."""
        return self.population[self.readout].size if self.readout else ()


def _wires(connections: object, names: Collection[str]) -> list[tuple[str, str]] | None:
    """Both ends of every connection; None: they are no such, which is said of them by themselves."""
    if not isinstance(connections, list | tuple) or not all(isinstance(each, Mapping) for each in connections):
        return None
    wires = [(str(each.get("pre")), str(each.get("post"))) for each in connections]
    return wires if all(pre in names and post in names for pre, post in wires) else None


@dataclass(frozen=True)
class Experiment:
    """What a definition describes, as objects: built once by `Definition.build` and handed on.

    definition: as resolved.
    rule, loss, optimizer, schedule, encoder, answer: what its entries describe.
    task, protocol: of an experiment that makes its own trials or takes its own measurements; else None.
    populations, connections: of the network.
    stimulations, reinforcements: of a free run.
    """

    definition: Definition
    rule: Rule
    loss: Described
    optimizer: OptimizerChoice
    schedule: Schedule
    encoder: Encoder
    answer: Answer
    task: Task | None
    protocol: Protocol | None
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    stimulations: tuple[Stimulation, ...] = ()
    reinforcements: tuple[Reinforcement, ...] = ()

    def on(self, network: Network) -> "Experiment":
        """The same with a network that is there already, its weights as they are."""
        experiment = replace(self)
        vars(experiment)["network"] = network
        return experiment

    @cached_property
    def network(self) -> Network:
        """The network, one for all who are handed this record. Its initial weights are drawn when it is first asked
        for, on the CPU: after the checks that can do without them.

        Raises:
            UsageError: if populations and connections do not fit together.
        """
        definition, time = self.definition, self.definition.time
        weights = generator(definition.seed, "weights")
        try:
            network = Network(self.populations, self.connections, weights, time.dt, self.answer, time.block, time.fused)
        except ValueError as problem:
            raise UsageError(f"{definition.name}: {problem}") from None
        if time.fused and not any(is_fused(each.neuron) for each in network.populations.values() if each.neuron):
            warn(
                f"{definition.name}: time.fused compiles nothing: a step of every population has so few operations "
                f"that it is faster as it is written, draws numbers, or measures its batch; leave it out"
            )
        for name in definition.training.rates:
            if name not in network.incoming and name not in network.connections:
                there = [*network.incoming, *network.connections]
                raise UsageError(
                    f"{definition.name}: training.rates: no population or connection '{name}'{nearest(name, there)}"
                )
        return network

"""Which runs belong together: all that agree in everything but the seed; and in what the groups differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from neurosbd.measures import unmeasured
from neurosbd.report.run_summary import setting, settings, text
from neurosbd.runs.run import Run

# The seed is what a group is a sample over; the others change nothing that is learned.
_NOT_COMPARED = ("seed", "about", "source", "record", "data.root", "training.checkpoint_every")
_FAIR = ("data", "task", "training.epochs", "training.batches", "training.test_batches")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    model, rule: of all of them.
    settings: every value by dotted key.
    runs: of the group, by seed.
    """

    model: str
    rule: str
    settings: dict[str, str]
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """Runs that count: those that came to their end."""
        return tuple(run for run in self.runs if run.result.get("status") == "finished")


def groups(runs: Sequence[Run]) -> list[Group]:
    """Runs that agree in everything but the seed, in the order of first appearance."""
    found: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(sorted(_settings(run).items())), []).append(run)
    return [
        Group(
            str(setting(members[0], "name", "?")),
            str(setting(members[0], "rule.kind", "?")),
            dict(key),
            tuple(sorted(members, key=lambda run: str(setting(run, "seed", "")).zfill(12))),
        )
        for key, members in found.items()
    ]


def _settings(run: Run) -> dict[str, str]:
    every = {key: text(value) for key, value in settings(run).items()}
    return {k: v for k, v in every.items() if not any(k == skip or k.startswith(f"{skip}.") for skip in _NOT_COMPARED)}


def differing(found: Sequence[Group]) -> tuple[list[str], list[str]]:
    """Keys in which groups differ: (those that tell groups of one model and rule apart, the rest)."""
    keys = dict.fromkeys(key for group in found for key in group.settings)
    differ = [key for key in keys if len({group.settings.get(key) for group in found}) > 1]
    differ = [key for key in differ if key not in ("name", "rule.kind")]
    apart = []
    for key in differ:
        kinds: dict[tuple[str, str], set[str | None]] = {}
        for group in found:
            kinds.setdefault((group.model, group.rule), set()).add(group.settings.get(key))
        if any(len(values) > 1 for values in kinds.values()):
            apart.append(key)
    return apart, [key for key in differ if key not in apart]


def label(group: Group, apart: Sequence[str], several_models: bool, several_rules: bool) -> str:
    """A group in the fewest words that tell it from the others."""
    parts = [group.model] if several_models else []
    parts += [group.rule] if several_rules or not (several_models or apart) else []
    parts += [f"{key.removeprefix('training.')} {group.settings.get(key, '–')}" for key in apart]
    return ", ".join(parts)


def concerns(found: Sequence[Group]) -> list[str]:
    """What makes the comparison unfair or uncertain."""
    said = []
    for group in found:
        for run in group.runs:
            status = run.result.get("status", "?")
            if status != "finished":
                done = f"{len(run.metrics)} of {setting(run, 'training.epochs', '?')} epochs"
                said.append(f"{run.path}: {status} after {done}; it is not counted")
        unjudged = dict.fromkeys(why for run in group.runs for why in unmeasured(run.unjudged))
        said += [f"{group.model}, {group.rule}: {why}" for why in unjudged]
        seeds = [setting(run, "seed") for run in group.finished]
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1}, key=str)
        if twice:
            said.append(
                f"{group.model}, {group.rule}: seed {', '.join(map(str, twice))} is there more than once; runs of one "
                f"seed are no independent samples"
            )
    for key in dict.fromkeys(key for group in found for key in group.settings):
        values = {group.settings.get(key) for group in found}
        if len(values) > 1 and any(key == fair or key.startswith(f"{fair}.") for fair in _FAIR):
            shown = ", ".join(sorted(map(text, values)))
            said.append(f"the groups differ in {key} ({shown}): their values do not compare rules alone")
    return said + _machines([run for group in found for run in group.finished])


def _machines(runs: Sequence[Run]) -> list[str]:
    """Differences of device or code, which change times a lot and values in their last digits."""
    said = []
    for what, so in (
        ("device", "do not compare times"),
        ("threads", "do not compare times"),
        ("commit", "they were made by different code"),
    ):
        values = {text(run.config.get(what)) for run in runs}
        if len(values) > 1:
            said.append(f"the runs differ in {what} ({', '.join(sorted(values))}): {so}")
    return said

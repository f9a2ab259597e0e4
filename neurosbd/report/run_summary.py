"""What ran, how it went, and where it came from: the words and tables of a run that need no trace."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from neurosbd.errors import RESUME, UsageError
from neurosbd.files import library
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.measures import MEASURES, shown, title
from neurosbd.runs.progress import DYNAMICS, duration, judged_outputs
from neurosbd.runs.run import Run

_SMALL_PNG = 5_000_000  # bytes
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_SETTINGS = ("name", "about", "source", "seed", "record")


def setting(run: Run, key: str, default: object = None) -> Json:
    """A value of the resolved definition by dotted key, without demanding that the rest of it is valid."""
    value: Json = run.config.get("definition")
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return default if value is None else value


def settings(run: Run) -> JsonTable:
    """Every value by dotted key; defaults are filled in where the run was made before a setting existed."""
    try:
        content = run.definition.model_dump(mode="json")
    except UsageError:  # of another version: as it stands there
        content = run.config.get("definition")
    return {key: value for key, value in flat(content).items() if value is not None}


def is_experiment(run: Run) -> bool:
    """Whether it was carried out by `neurosbd simulate`."""
    return bool(setting(run, "task") or setting(run, "protocol") or setting(run, "simulation"))


def what_ran(run: Run) -> list[tuple[str, str]]:
    """The model, its rule, its data, its seed and how far it came."""
    if setting(run, "simulation"):
        return _what_ran_freely(run)
    subset = setting(run, "data.subset")
    each = " per class" if subset and ("accuracy" in judged_by(run) or _has_classes(run)) else ""
    task = setting(run, "task.kind") or setting(run, "protocol.kind")
    data = task or f"{setting(run, 'data.name', '?')}{f', {subset} training examples' if subset else ''}{each}"
    done, asked = len(run.metrics), setting(run, "training.epochs")
    rows = [
        ("model", setting(run, "name", "?")),
        ("rule", setting(run, "rule.kind", "?")),
        ("loss", setting(run, "loss.kind", "?")),
        ("task" if task else "data", data),
        ("seed", setting(run, "seed", "?")),
        ("epochs", f"{done} of {asked}" if asked and not setting(run, "protocol") else None),
        ("optimizer", _optimizer(run)),
        ("time", f"{setting(run, 'time.steps')} steps of {1000 * setting(run, 'time.dt'):g} ms per example")
        if isinstance(setting(run, "time.dt"), float) and setting(run, "time.steps", 1) != 1
        else ("time", None),
        ("duration", _duration(run)),
    ]
    return [(key, str(value)) for key, value in rows if value is not None]


def _has_classes(run: Run) -> bool:
    """Whether its data have classes, as far as it has kept that."""
    units = run.config.get("units")
    return isinstance(units, Mapping) and bool(units.get("classes"))


def _what_ran_freely(run: Run) -> list[tuple[str, str]]:
    """The model, what reached it, its rule if anything learned, its seed and for how long it ran."""
    plastic = [c for c in setting(run, "connection", ()) if isinstance(c, Mapping) and c.get("plastic")]
    names = ", ".join(f"{connection.get('pre')}->{connection.get('post')}" for connection in plastic)
    given = [s for s in setting(run, "stimulus", ()) if isinstance(s, Mapping)]
    done = run.metrics[-1].get("time", 0) if run.metrics else 0
    rows = [
        ("model", setting(run, "name", "?")),
        ("rule", f"{setting(run, 'rule.kind', '?')}, of {names}" if plastic else "none: no weight moves"),
        ("stimuli", ", ".join(f"{each.get('kind')} at {each.get('population')}" for each in given) or "none"),
        ("seed", setting(run, "seed", "?")),
        ("simulated", f"{done:g} s of {setting(run, 'simulation.duration')} s in steps of {setting(run, 'time.dt')} s"),
        ("examples", setting(run, "simulation.examples", 1)),
        ("duration", _duration(run)),
    ]
    return [(key, str(value)) for key, value in rows if value is not None]


def _optimizer(run: Run) -> str | None:
    kind, rate = setting(run, "training.optimizer.kind"), setting(run, "training.optimizer.lr")
    if kind is None or setting(run, "protocol"):
        return None
    return f"{kind}, learning rate {rate}, batches of {setting(run, 'training.batch_size')}"


def _duration(run: Run) -> str | None:
    seconds = [line.get("seconds") for line in run.metrics]
    known = [value for value in seconds if isinstance(value, int | float)]
    total = sum(known)
    return None if not known else f"{total:.1f} s" if total < 60 else duration(total)


def how_it_went(run: Run) -> list[tuple[str, str, str]]:
    """Key figures: (what, value, remark). Of the last epoch; the best one is named as what it is."""
    rows: list[tuple[str, str, str]] = []
    measures = judged_by(run)
    for last in () if setting(run, "simulation") else run.metrics[-1:]:
        for output in judged_outputs(last):
            rows += _output(last, output)
        rows += [(what, number(value), "") for what, value in dynamics(last).items()]
    key = f"test_{measures[0]}" if measures else ""
    scored = [line for line in run.metrics if isinstance(line.get(key), int | float)]
    if scored:
        best = max(scored, key=lambda line: line[key])
        remark = f"epoch {best.get('epoch', '?')}; chosen on the test set, so no result to report"
        rows.append((f"highest test {title(measures[0])}", _measured(measures[0], best[key]), remark))
    findings = run.result.get("measures")
    if isinstance(findings, Mapping):
        rows += [(str(name).replace("_", " "), number(value), "") for name, value in findings.items()]
    return rows


def _output(last: JsonTable, output: str) -> list[tuple[str, str, str]]:
    """Measures and loss of the readout, or of 'HEAD.', on every split."""
    splits = [on for on in ("test", "validation", "train") if on != "validation" or f"{on}_{output}loss" in last]
    rows = [
        (f"{on} {title(name)}", _measured(name, last.get(f"{on}_{name}")), "")
        for name in (f"{output}{measure}" for measure in MEASURES)
        if f"test_{name}" in last
        for on in splits
    ]
    return rows + [(f"{on} {title(f'{output}loss')}", number(last.get(f"{on}_{output}loss")), "") for on in splits]


def dynamics(metrics: JsonTable) -> dict[str, float]:
    """Rates, activities, weights and their changes in a line of metrics, by their name in words, with the unit."""
    found = {}
    for key, value in metrics.items():
        name, _, what = key.rpartition(".")
        if name and what in DYNAMICS:
            words, unit = DYNAMICS[what]
            found[f"{name} {words}{unit and f' ({unit})'}"] = value
    return found


def judged_by(run: Run) -> list[str]:
    """Names of the measures of a run; the first says which epoch was the best."""
    return [name for name in MEASURES if any(f"test_{name}" in line for line in run.metrics)]


def _measured(name: str, value: object) -> str:
    return shown(name, value) if isinstance(value, int | float) else "–"


def complaints(run: Run) -> list[str]:
    """What the run itself says is wrong: its end, its warnings, values that are no numbers."""
    status, reason = run.result.get("status", "?"), run.result.get("reason")
    found = {
        "failed": [f"the run failed: {reason}"],
        "interrupted": [f"the run was interrupted; these are its values so far. Go on with {RESUME}"],
        "running": ["the run is still going on; these are its values so far"],
        "killed": [f"{reason}; these are its values so far"],
    }.get(status, [])
    broken = [
        line.get("epoch") for line in run.metrics if any(v is None for k, v in line.items() if k.endswith("_loss"))
    ]
    if broken:
        found.append(
            f"the loss is NaN or infinite in {len(broken)} of {len(run.metrics)} epochs, first in epoch {broken[0]}"
        )
    warnings = run.result.get("warnings")
    return found + [str(warning) for warning in warnings if warning] if isinstance(warnings, list) else found


def provenance(run: Run) -> list[tuple[str, str]]:
    """Versions, commit, device, and the files."""
    config = run.config
    versions = config.get("versions")
    rows = [
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, Mapping) else None),
        ("commit", config.get("commit")),
        ("device", f"{config.get('device', '?')} ({config.get('device_type', '?')})"),
        ("threads", config.get("threads")),
        ("run", run.path.resolve().name),
        ("source of the model", setting(run, "source") or None),
    ]
    return [(key, str(value)) for key, value in rows if value is not None]


def changed(run: Run) -> list[tuple[str, str, str]] | str:
    """Settings that differ from the model as it ships: (key, here, there), or why that cannot be said."""
    name = setting(run, "name", "")
    if name not in library.names("models"):
        return f"'{name}' is no model that ships; every setting is in config.json"
    from neurosbd.config.resolve import load_model

    try:
        shipped = load_model(name, setting(run, "rule.kind")).model_dump(mode="json")
    except UsageError as problem:
        return str(problem)
    here, there = settings(run), flat(shipped)
    keys = [key for key in {**here, **there} if key.partition(".")[0] not in _NO_SETTINGS]
    return [
        (key, text(here.get(key)), text(there.get(key)))
        for key in keys
        if text(here.get(key)) != text(there.get(key))
    ]  # fmt: skip


def all_settings(run: Run) -> list[tuple[str, str]]:
    """Every resolved value."""
    return [(key, text(value)) for key, value in flat(run.config.get("definition")).items()]


def flat(value: object, at: str = "") -> JsonTable:
    """Dotted key -> plain value, of nested tables and arrays of tables."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Json, Json]] = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        items = enumerate(value)
    else:
        return {at: value} if at else {}
    return {k: v for key, item in items for k, v in flat(item, f"{at}.{key}" if at else str(key)).items()}


def own_figure(path: Path) -> bytes | None:
    """The figure that `neurosbd simulate` left, if it is one."""
    try:
        with (path / "figure.png").open("rb") as stream:
            content = stream.read(_SMALL_PNG + 1)
    except OSError:
        return None
    return content if content.startswith(_PNG) and len(content) <= _SMALL_PNG else None


def command_to_record(run: Run, specs: Iterable[str]) -> str:
    """The command that would have recorded these signals too."""
    verb = "simulate" if is_experiment(run) else "fit"
    records = " ".join(f"--record {shlex.quote(spec)}" for spec in dict.fromkeys(specs))
    given = (setting(run, "name", "MODEL"), "--rule", setting(run, "rule.kind"), "--seed", setting(run, "seed", 0))
    return f"neurosbd {verb} {' '.join(shlex.quote(str(part)) for part in given)} {records}"


def number(value: object) -> str:
    """Four digits; a dash for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def text(value: object) -> str:
    """A setting as a person reads it."""
    return "–" if value is None else str(value)

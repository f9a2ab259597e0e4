"""Analyses: found by name or by file, loaded, carried out; one that fails does not stop the others."""

import ast
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from neurosbd.errors import RunError, UsageError
from neurosbd.files import library
from neurosbd.recording.signals import SCORED
from neurosbd.report.drawing import Drawing, draw
from neurosbd.report.quantities import Quantity, quantities
from neurosbd.runs.run import Run
from neurosbd.tracefiles.reader import NotRecorded

KIND = "analysis"
NEEDED = ("analyse", "figure")
FIRST = ("learning_curves", "layer_health", "decorrelation", "alignment")  # what a person looks at first
_UNTESTED = {"simulation": "a free run", "protocol": "a protocol"}  # by the key of the definition
_MOST_SAID = 500  # characters of an exception


@dataclass(frozen=True)
class Analysis:
    """One file that analyses a run.

    name: its stem; names the figures, tables and files.
    path: of the file.
    about: first line of its docstring.
    """

    name: str
    path: Path
    about: str

    def load(self) -> ModuleType:
        """The module, read from its file at this moment.

        Raises:
            UsageError: if it does not offer `analyse(run)` and `figure(result)`.
        """
        alias = f"neurosbd_analysis_{self.name}"
        found = importlib.util.spec_from_file_location(alias, self.path)
        assert found is not None and found.loader is not None  # it ends in .py
        module = importlib.util.module_from_spec(found)
        sys.modules[alias] = module  # dataclasses look up the module they are defined in
        found.loader.exec_module(module)
        missing = [name for name in NEEDED if not callable(getattr(module, name, None))]
        if missing:
            raise UsageError(
                f"{self.path}: has no {' and no '.join(f'{name}()' for name in missing)}; an analysis offers "
                f"analyse(run) -> result and figure(result), see docs/analysis.md"
            )
        return module


@dataclass(frozen=True)
class Outcome:
    """What came of one analysis.

    about: what it shows.
    result: what `analyse` returned; none if it was not shown.
    quantities: its numbers.
    drawing: its figure.
    caption, advice: its words.
    spec: of --record, if a signal is missing.
    problem: why it is not shown, one line.
    failed: whether that is a mistake in the analysis.
    """

    name: str
    about: str
    result: object = None
    quantities: tuple[Quantity, ...] = ()
    drawing: Drawing | None = None
    caption: str = ""
    advice: tuple[str, ...] = ()
    spec: str | None = None
    problem: str | None = None
    failed: bool = field(default=False, kw_only=True)


def describe(name: str | Path) -> Analysis:
    """An analysis by its name (`neurosbd list analyses`) or by the path of a .py file; nothing of it is executed.

    Raises:
        UsageError: if there is no such file, or it is not Python.
    """
    path = library.find(KIND, name)
    if path.suffix != ".py":
        raise UsageError(f"{path}: an analysis is a Python file, its name ends in .py; see docs/analysis.md")
    return Analysis(re.sub(r"[^\w-]+", "_", path.stem), path, documentation(path).partition("\n")[0])


def documentation(path: Path) -> str:
    """Docstring of a Python file, without executing it.

    Raises:
        UsageError: if it cannot be read or is not Python; with the line.
    """
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes()))
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    except (SyntaxError, ValueError) as problem:
        line = getattr(problem, "lineno", None) or 1
        raise UsageError(f"{path}:{line}: not Python ({getattr(problem, 'msg', problem)})") from None
    return inspect.cleandoc(text or "")


def chosen(own: Sequence[str | Path]) -> list[Analysis]:
    """All shipped analyses and the user's own; one of the user's takes the place of a shipped one of its name.

    Raises:
        UsageError: if one does not exist, cannot be loaded, or two of the user's have the same name.
    """
    found: dict[str, Analysis] = {}
    for name in own:
        analysis = describe(name)
        other = found.setdefault(analysis.name, analysis)
        if other.path.resolve() != analysis.path.resolve():
            raise UsageError(f"{other.path} and {analysis.path}: two analyses called '{analysis.name}'; rename one")
        try:
            analysis.load()
        except UsageError:
            raise
        except Exception as problem:
            raise UsageError(f"{analysis.path}: cannot be loaded: {last_line(problem, analysis.path)}") from None
    names = sorted(library.names(KIND), key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    return [*(describe(name) for name in names if name not in found), *found.values()]


def run_analysis(analysis: Analysis, run: Run) -> Outcome:
    """Analyse a run and draw it. Whatever goes wrong is in the outcome."""
    try:
        module = analysis.load()
        result = module.analyse(run)
        words = getattr(module, "caption", None)
        suggest = getattr(module, "advice", None)
        return Outcome(
            analysis.name,
            analysis.about,
            result,
            quantities(result),
            draw(module.figure(result)),
            str(words(result)) if words else "",
            tuple(str(line) for line in suggest(result)) if suggest else (),
        )
    except NotRecorded as missing:
        never = _never(run, missing.spec)
        return Outcome(
            analysis.name, analysis.about, spec=None if never else missing.spec, problem=never or str(missing)
        )
    except UsageError as problem:
        return Outcome(analysis.name, analysis.about, problem=str(problem))
    except RunError as problem:  # a part of a user's own, in the run that is analysed
        return Outcome(analysis.name, analysis.about, problem=str(problem), failed=True)
    except Exception as problem:
        return Outcome(analysis.name, analysis.about, problem=last_line(problem, analysis.path), failed=True)


def _never(run: Run, spec: str) -> str:
    """Why a signal that was not recorded cannot be, in an experiment without a score or a test; else ''."""
    definition = run.config.get("definition") or {}
    kind = next((word for key, word in _UNTESTED.items() if definition.get(key)), "")
    what = spec.rpartition(".")[2].partition("[")[0]
    if kind and "on=test" in spec:
        return f"{kind} has no test, of which this is a picture"
    if not kind or what not in SCORED:
        return ""
    protocol = run.definition.protocol
    judged = protocol is not None and protocol.build().extent(run.definition.time.dt).loss is not None
    return "" if judged else f"nobody scores {kind}, so there is no {what}"


def last_line(problem: BaseException, path: Path) -> str:
    """An exception as one line, with the place in `path` (or else where it was raised)."""
    said = " ".join(traceback.format_exception_only(problem)[-1].split())[:_MOST_SAID]
    if isinstance(problem, SyntaxError):
        return f"{said} ({problem.filename}:{problem.lineno})"
    frames = traceback.extract_tb(problem.__traceback__)
    here = [frame for frame in frames if frame.filename == str(path)] or frames
    return f"{said} ({here[-1].filename}:{here[-1].lineno})" if here else said

"""Parts of a user's own: the files and packages that register them, and what a run remembers of both.

Only what a user names, by `--plugin` or by installing a package, is ever executed; a model file can name a part,
but never the code that makes it.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from neurosbd.errors import UsageError, nearest, warn
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.files.writing import legal_path

GROUP = "neurosbd.plugins"  # of the entry points of packages
_MOST_SAID = 300  # characters of an exception

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """Where registered parts come from.

    Args:
        name: stem of the file, or name of the entry point.
        sha256: of the file; empty where there is none, as in a notebook.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Registration:
    """One part in a table, and who put it there."""

    kind: str
    name: str
    item: object
    table: MutableMapping[str, Json]
    plugin: Plugin


_REGISTERED: list[Registration] = []
_FILES: set[tuple[str, str]] = set()  # path and sha256 of those that have been run
_loading: list[Plugin] = []  # those at work, the innermost last
_packages_loaded = False


def add(kind: str, name: str, item: object, table: MutableMapping[str, Json]) -> None:
    """Put a part into a table and remember the file it comes from."""
    table[name] = item
    _REGISTERED.append(Registration(kind, name, item, table, _loading[-1] if _loading else _home(item)))


def registered() -> list[tuple[str, str]]:
    """(kind, name) of every part of a user's own, in the order of their coming."""
    return [(part.kind, part.name) for part in _REGISTERED]


def registration(item: object) -> Registration | None:
    """How a part of a user's own was registered; None if it was not."""
    return next((part for part in _REGISTERED if part.item is item), None)


def file_of(item: object) -> str | None:
    """The file that a part of a user's own stands in; None in a notebook."""
    module = sys.modules.get(getattr(item, "__module__", "") or "")
    return getattr(module, "__file__", None)


def remove(kind: str, name: str) -> None:
    """Take a registered part out of its table again."""
    for part in [part for part in _REGISTERED if (part.kind, part.name) == (kind, name)]:
        part.table.pop(part.name, None)
        _REGISTERED.remove(part)


def load_file(path: str | Path) -> None:
    """Run a file that registers parts; one that has been run already, and is the same, is left alone.

    Args:
        path: of a Python file that calls `neurosbd.register`.
    Raises:
        UsageError: if it is missing, fails, or registers nothing; nothing of it is registered then.
    """
    path = legal_path(path)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; --plugin takes a Python file that calls neurosbd.register")
    source = path.read_bytes()
    plugin = Plugin(path.stem, hashlib.sha256(source).hexdigest())
    mark = (str(path.resolve()), plugin.sha256)
    if mark in _FILES:
        return
    module = ModuleType(f"neurosbd_plugin_{path.stem}_{plugin.sha256[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where the annotations of its dataclasses are looked up
    with _loaded(plugin, str(path)) as count:
        exec(compile(source, str(path), "exec"), vars(module))
        if not count():
            raise UsageError(
                "registers nothing; call neurosbd.register in it, for example neurosbd.register('rules', 'mine', mine)"
            )
    _FILES.add(mark)


def load_packages() -> None:
    """Import what installed packages offer under the entry points `neurosbd.plugins`, once; a broken one is said."""
    global _packages_loaded
    if _packages_loaded:
        return
    _packages_loaded = True
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        home = f"plugin '{point.name}' of package '{point.dist.name if point.dist else point.module}'"
        try:
            with _loaded(Plugin(point.name, ""), home):
                import_module(point.module)
        except UsageError as problem:
            warn(f"{problem}; its parts are not there")


def nearest_part(name: str, table: Iterable[str]) -> str:
    """As `nearest`, of an item that a table lacks: where none has a name like that, it may be one of a user's own."""
    hint = nearest(name, table)
    return hint if "did you mean" in hint else f"{hint}; one of your own needs its file: --plugin FILE.py"


def find(table: Mapping[str, T], name: object) -> T | None:
    """The item of a table; packages are asked only for a name that the table lacks. None if nobody has it."""
    if isinstance(name, str) and name not in table:
        load_packages()
    return table.get(name) if isinstance(name, str) else None


@contextmanager
def _loaded(plugin: Plugin, where: str) -> Iterator[Callable[[], int]]:
    """Context in which the code of a plugin runs; if it fails, none of its parts stays."""
    start = len(_REGISTERED)
    _loading.append(plugin)
    try:
        yield lambda: len(_REGISTERED) - start
    except BaseException as problem:
        for part in _REGISTERED[start:]:
            remove(part.kind, part.name)
        if isinstance(problem, UsageError):
            raise UsageError(f"{where}: {problem}") from None
        if isinstance(problem, Exception | SystemExit):
            said = str(problem)[:_MOST_SAID]
            raise UsageError(f"{where}{_line(problem, where)}: {type(problem).__name__}: {said}") from problem
        raise
    finally:
        _loading.pop()


def _line(problem: BaseException, path: str) -> str:
    """':12' where line 12 of the file itself is the last of it that ran."""
    trace, line = problem.__traceback__, getattr(problem, "lineno", None) if isinstance(problem, SyntaxError) else None
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == path else line
        trace = trace.tb_next
    return f":{line}" if line else ""


def _home(item: object) -> Plugin:
    """The file of a part that a program registers itself; in a notebook there is none."""
    path = Path(file_of(item) or "")
    if not path.is_file():
        return Plugin("(the program itself)", "")
    return Plugin(path.stem, hashlib.sha256(path.read_bytes()).hexdigest())


def needed(makers: Iterable[object]) -> dict[str, list[JsonTable]]:
    """What a run has to remember: the plugins whose parts it uses, each with these parts and the sha256 of its file.

    Args:
        makers: the items behind all entries of a definition. Parts that leave no entry in a definition (the process of
            a data set, a recipe) count as used whenever they are registered.

    Returns:
        {"plugins": [...]}, or nothing where nothing is needed.
    """
    used = {id(make) for make in makers}
    parts: dict[Plugin, list[str]] = {}
    for part in _REGISTERED:
        if id(part.item) in used or part.kind in ("processes", "recipes"):
            parts.setdefault(part.plugin, []).append(f"{part.kind}/{part.name}")
    used_plugins = [{"name": p.name, "sha256": p.sha256, "parts": names} for p, names in parts.items()]
    return {"plugins": used_plugins} if used_plugins else {}


def check(wanted: object, where: str) -> None:
    """Ask whether all parts that a run remembers are here.

    Args:
        wanted: of the config.json, what `needed` gave; None if it needs none.
        where: the file, for messages.
    Raises:
        UsageError: with the plugin whose parts are missing, and how to give it.
    """
    for plugin in _read(wanted, where):
        if any(part not in _here() for part in plugin["parts"]):
            load_packages()
        missing = [part for part in plugin["parts"] if part not in _here()]
        if missing:
            known = f" (sha256 {plugin['sha256'][:12]}...)" if plugin["sha256"] else ""
            raise UsageError(
                f"{where}: the run uses {', '.join(missing)} of plugin '{plugin['name']}'{known}, which is not here; "
                f"give it with --plugin {plugin['name']}.py, or register it in Python before. Its metrics and result "
                f"open without it"
            )


def compare(wanted: object, where: str) -> None:
    """Say it if a part that a run remembers comes from a file that has changed since."""
    here = _here()
    for plugin in _read(wanted, where):
        now = {here[part].sha256 for part in plugin["parts"] if part in here} - {"", plugin["sha256"]}
        if now and plugin["sha256"]:
            warn(f"{where}: plugin '{plugin['name']}' has changed since this run began; it may go on in another way")


def _here() -> dict[str, Plugin]:
    return {f"{part.kind}/{part.name}": part.plugin for part in _REGISTERED}


def _read(wanted: Json, where: str) -> list[JsonTable]:
    """What a file says of plugins, if it is of the form that `needed` gives."""
    for plugin in [] if wanted is None else wanted if isinstance(wanted, list) else [wanted]:
        fields = plugin if isinstance(plugin, dict) else {}
        parts = fields.get("parts")
        texts = [fields.get("name"), fields.get("sha256"), *(parts if isinstance(parts, list) else [None])]
        if not all(isinstance(text, str) and len(text) <= 200 and text.isprintable() for text in texts):
            raise UsageError(f"{where}: plugins: must be tables of name, sha256 and parts; the file was changed")
    return wanted or []

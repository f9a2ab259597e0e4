"""The architecture: imports point one way, modules and functions stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neurosbd"
ROOMS = [  # from the ground up; a room imports from those below it, and rooms of one storey do not know each other
    {"__version__", "allocator", "axes", "errors", "filters", "noise", "seeds", "text", "transfers"},
    {"files"},
    {"schema"},
    {"losses"},
    {"connections", "datasets", "distributions", "answers", "encoders", "surrogates", "tracefiles"},
    {"constraints", "neurons", "spike_times", "stimuli"},
    {"synapses"},
    {"eligibility", "neuromodulators", "rewards"},
    {"expansions", "network", "plasticity", "regularisers"},
    {"learning"},
    {"rules"},
    {"interchange", "measures", "recording", "spike_statistics"},
    {"tasks"},
    {"config"},
    {"tables"},
    {"testing"},
    {"runs"},
    {"training"},
    {"experiments"},
    {"report"},
    {"cli", "__init__"},
    {"__main__"},
]
FILES = sorted(PACKAGE.rglob("*.py"))
ANALYSES = sorted((ROOT / "analysis").glob("*.py"))


def _storey(part: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if part in rooms)


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("neurosbd"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in _imports(path) - {own}:
        assert _storey(name) < _storey(own), f"{path} of {own} imports {name}, which is not below it"


def test_no_import_cycles() -> None:
    graph = {
        str(p.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): _modules(p)
        for p in FILES
    }

    clear: set[str] = set()  # modules from which no path leads into a circle; each is walked once

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name in clear:
            return
        for follower in graph.get(name, ()):
            visit(follower, (*path, name))
        clear.add(name)

    for name in graph:
        if name != "__init__":
            visit(name, ())


def _modules(path: Path) -> set[str]:
    """Modules imported when this one is (not inside functions)."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("neurosbd."):
            found.add(node.module.removeprefix("neurosbd."))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            body = node.body[1:] if documented else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 45, f"{path}:{node.lineno} {node.name} has {length} lines"


COUNTS_AXES = {  # rooms and modules that may ask for a number of axes, and of what
    "axes.py": "the axes of populations themselves",
    "connections": "weights, and what arrives at them",
    "datasets": "files and a user's data",
    "distributions.py": "constants: one for all units, or one each",
    "expansions": "targets: classes or values",
    "files/checkpoints.py": "tensors of a file",
    "interchange": "files and cells of other libraries",
    "learning/batch.py": "a user's batch",
    "learning/optimizer_step.py": "the order in memory of a parameter",
    "learning/simulation.py": "a user's inputs",
    "losses": "targets: classes or values",
    "network/inputs.py": "a user's inputs",
    "runs/forward.py": "a user's data",
    "schema/kinds.py": "a user's constants",
    "stimuli": "arrays of a file",
    "spike_times.py": "a user's arrays",
    "testing": "parts of a user's own",
    "tracefiles": "arrays of a file",
    "training/capacity.py": "what an optimizer keeps, besides counts",
    "training/health.py": "a user's inputs",
    "training/restoring.py": "what an optimizer keeps, besides counts",
    "training/session.py": "targets: classes or values",
    "config/compatibility.py": "a user's data",
}


def _counts_axes(node: ast.AST) -> bool:
    """Whether it asks a tensor, a shape or a size for its number of axes."""
    if isinstance(node, ast.Attribute):
        return node.attr == "ndim"
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr == "dim" and not node.args
    about = node.args[0] if isinstance(node.func, ast.Name) and node.func.id == "len" and node.args else None
    name = about.attr if isinstance(about, ast.Attribute) else about.id if isinstance(about, ast.Name) else ""
    return name in ("shape", "size")


def _asked(path: Path) -> list[int]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node.lineno for node in nodes if isinstance(node, ast.expr) and _counts_axes(node)]


@pytest.mark.parametrize("path", [*FILES, *ANALYSES], ids=lambda p: str(p.relative_to(ROOT)))
def test_who_a_tensor_belongs_to_is_not_told_by_its_number_of_axes(path: Path) -> None:
    """Populations have named axes, weights a geometry. Must fail for a layout or an analysis that asks for `ndim`
    (tried, both)."""
    inside = str(path.relative_to(ROOT)).removeprefix("neurosbd/")
    if inside not in COUNTS_AXES and inside.split("/")[0] not in COUNTS_AXES:
        assert not _asked(path), f"{inside}:{_asked(path)} counts axes; ask neurosbd/axes.py or the geometry"


def test_nobody_is_excused_for_nothing() -> None:
    for part in COUNTS_AXES:
        whole = PACKAGE / part
        files = [whole] if part.endswith(".py") else whole.rglob("*.py")
        assert any(_asked(path) for path in files), f"{part} counts no axes any more; take it out of COUNTS_AXES"


def _bases(node: ast.ClassDef) -> set[str]:
    """Names of the classes from which a class is derived, `Rule` of `Rule[TensorState]`."""
    return {named for base in node.bases for named in _names(base.value if isinstance(base, ast.Subscript) else base)}


def _names(node: ast.AST) -> set[str]:
    """All names in an expression, `Rule` of `rule.Rule`."""
    inside = list(ast.walk(node))
    return {n.id for n in inside if isinstance(n, ast.Name)} | {n.attr for n in inside if isinstance(n, ast.Attribute)}


def _rule_classes() -> set[str]:
    """Rule and all classes that are derived from it, directly or not."""
    classes = {node.name: _bases(node) for path in FILES for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.ClassDef)}  # fmt: skip
    found = {"Rule"}
    while more := {name for name, bases in classes.items() if bases & found} - found:
        found |= more
    return found


def _kinds_asked(node: ast.AST) -> set[str]:
    """Classes with which the class of an object is compared; of `self` a class may ask."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        return _names(node.args[1]) if node.func.id in ("isinstance", "issubclass") else set()
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Call) and _names(node.left.func) == {"type"}:
        about = set().union(*map(_names, node.left.args))
        return set() if about == {"self"} else set().union(*map(_names, node.comparators))
    return set()


RULE_CLASSES = _rule_classes()


def _asks_for_a_rule(text: str) -> list[int]:
    """Lines that ask which class a rule is of."""
    return [node.lineno for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.expr) and _kinds_asked(node) & RULE_CLASSES]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nobody_asks_which_class_a_rule_is_of(path: Path) -> None:
    """A rule says what it can, by methods that `Rule` gives a default. Must fail for `isinstance(rule, LocalRule)` in
    learning/learner.py (tried)."""
    inside = path.relative_to(PACKAGE)
    if inside.parts[0] != "rules":
        lines = _asks_for_a_rule(path.read_text())
        assert not lines, f"{inside}:{lines} asks which class a rule is of; give Rule a method with a default"


@pytest.mark.parametrize("asked", ["isinstance(rule, LocalRule)", "isinstance(rule, (int, rules.Backprop))",
                                   "type(rule) is not LocalRule", "issubclass(kind, Rule | None)"])  # fmt: skip
def test_every_way_of_asking_is_seen(asked: str) -> None:
    """The control: subclasses of subclasses are rules, and parts of rules are none."""
    assert {"Rule", "LocalRule", "Backprop", "MonoForward"} < RULE_CLASSES and "ThreeFactor" not in RULE_CLASSES
    assert _asks_for_a_rule(asked) == [1] and _asks_for_a_rule("isinstance(part, ThreeFactor)") == []


def test_every_package_is_in_the_wheel() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in PACKAGE.rglob("__init__.py")}
    assert listed - {f"neurosbd._shipped.{kind}" for kind in ("models", "data", "analysis")} == there


def test_what_is_tested_meets_the_lower_bounds() -> None:
    """constraints.txt pins what is tested; a bound above it could not be installed beside it."""
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, wanted):
        assert requirement.name in pinned and requirement.specifier.contains(pinned[requirement.name]), requirement

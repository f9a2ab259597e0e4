"""What a test module draws when it is imported has a seed of its own, so that no number depends on what ran before."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
DRAWS = {
    "bernoulli", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm",
}  # fmt: skip
GLOBAL = {"np.random", "numpy.random", "random"}  # modules whose functions draw from one state for all
SEEDED = {"default_rng", "Generator", "Random", "RandomState", "SeedSequence"}


def at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that happen when a module is imported: not those in the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, child.args):
                yield from at_import(ast.Expr(part) if isinstance(part, ast.expr) else part)
        elif isinstance(child, ast.Lambda):
            yield from at_import(child.args)
        else:
            if isinstance(child, ast.Call):
                yield child
            yield from at_import(child)


def unseeded(call: ast.Call) -> bool:
    """Whether it draws from the state that all share."""
    if not isinstance(call.func, ast.Attribute):
        return False
    where, what = ast.unparse(call.func.value), call.func.attr
    if where == "torch" or what.endswith("_"):
        draws = what in DRAWS or what.removesuffix("_") in {*DRAWS, "uniform", "exponential", "random"}
        return draws and not any(keyword.arg == "generator" for keyword in call.keywords)
    return where in GLOBAL and not (what in SEEDED and (call.args or call.keywords))


def draws(text: str) -> list[str]:
    return [f"line {call.lineno}: {ast.unparse(call):.60}" for call in at_import(ast.parse(text)) if unseeded(call)]


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: str(p.relative_to(TESTS)))
def test_nothing_is_drawn_at_import_without_a_seed(path: Path) -> None:
    """Must fail when the generator of X in tests/test_trials.py is left out (tried)."""
    assert draws(path.read_text()) == [], path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("X = torch.rand(3)", True),
        ("X = torch.rand(3, generator=SEED)", False),
        ("class A:\n    x = np.random.normal()", True),
        ("R = np.random.default_rng()", True),
        ("R = np.random.default_rng(0).normal()", False),
        ("X = torch.empty(3).uniform_()", True),
        ("@case(torch.randn(2))\ndef test(): ...", True),
        ("def test(x=torch.randperm(4)): ...", True),
        ("def test():\n    return torch.randn(3)", False),
        ("make = lambda: torch.randn(3)", False),
        ("X = random.choice([1, 2])", True),
    ],
)
def test_draws_at_import_are_told_from_others(text: str, found: bool) -> None:
    assert bool(draws(text)) is found

"""The checks of `neurosbd.testing` by their command: a line for each part, whole kinds, parts that are none."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurosbd.schema import plugins
from neurosbd.tables import TABLES
from neurosbd.testing import __main__ as command

PLUGIN = """
from dataclasses import dataclass
import neurosbd
from neurosbd.neurons import Tanh

@dataclass(frozen=True)
class Good(Tanh):
    '''As tanh.'''

@dataclass(frozen=True)
class Bad(Tanh):
    '''As tanh, with the gain of a linear unit.'''
    def gate(self, activity, third_factor, dt):
        return third_factor.clone()

neurosbd.register("neurons", "good", Good)
neurosbd.register("neurons", "bad", Bad)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    for name in ("good", "bad"):
        plugins.remove("neurons", name)
    plugins._FILES.clear()


def test_the_command_says_a_line_for_each_part_of_a_plugin(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--plugin", str(plugin)]) == 1
    good, bad = capsys.readouterr().out.splitlines()
    assert good == "neurons/good: keeps its contract (5 checks)"
    assert bad.startswith("neurons/bad: FAILED gain_equals_autograd: The gain is not the derivative of the value")
    assert command.main(["neurons", "good", "tanh", "--plugin", str(plugin)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert command.main(["neurons", "--plugin", str(plugin)]) == 1  # those of the plugin, of this kind
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert command.main(["losses", "--plugin", str(plugin)]) == 2
    assert "none of these plugins registers losses" in capsys.readouterr().err


def test_the_command_checks_a_whole_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["processes"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"processes/{name}: keeps its contract (3 checks)" for name in TABLES["processes"]
    ]
    assert command.main(["measures", "accuracy"]) == 0
    assert "measures have no checks beyond their signature" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["neurons", "tanhh"], "there is no 'tanhh' among neurons; did you mean 'tanh'"),
        (["neuron", "tanh"], "did you mean 'neurons'"),
        (["tanh"], "there is no kind 'tanh'"),
        (["neurons/tanh"], "'neurons/tanh' is written 'neurons tanh' now"),
    ],
)
def test_parts_that_are_none(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2 and message in capsys.readouterr().err


def test_it_needs_no_pytest() -> None:
    code = "import sys, neurosbd.testing.__main__; assert 'pytest' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

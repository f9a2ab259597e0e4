"""What the documents show runs as it stands there, and what they name exists."""

import re
import sys
from pathlib import Path
from types import FrameType

import pytest

import neurosbd

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [(page, code) for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)]


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=lambda v: v.name if isinstance(v, Path) else "")
def test_python_examples_run(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosbd.schema import plugins

    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, str(page), "exec"), names)
    assert len(names) > 2
    for kind, name in plugins.registered():  # by this page
        plugins.remove(kind, name)


TABLES = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "free-runs.md").read_text(), re.S)
FREE = [text for text in TABLES if "simulation" in text]


@pytest.mark.filterwarnings("ignore:stimulus .* begins at")  # of the part of a run that is carried out here
@pytest.mark.parametrize("text", FREE, ids=lambda text: text.splitlines()[0][:30])
def test_model_files_of_free_runs_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(text)
    run = neurosbd.simulate("own.toml", settings={"simulation.duration": "0.1 s"})
    assert run.result["status"] == "finished" and any(value for value in run.result["measures"].values())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_scripts_exist(page: Path) -> None:
    text = page.read_text()
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", prose) if not target.startswith("http")]
    scripts = re.findall(r"python (\w+/\w+\.py)", text)
    for target in [page.parent / link for link in links] + [ROOT / script for script in scripts]:
        assert target.exists(), f"{page.name} names {target}"
    assert "TODO" not in text


def test_every_rule_neuron_loss_is_in_the_readme() -> None:
    from neurosbd.losses import LOSSES
    from neurosbd.neurons import NEURONS
    from neurosbd.rules import RULES

    text = PAGES[0].read_text()
    for name in (*RULES, *NEURONS, *LOSSES):
        assert name in text, name


def test_every_measure_and_regression_set_is_in_its_page() -> None:
    from neurosbd.datasets.definition import load_file
    from neurosbd.datasets.load import READERS
    from neurosbd.files.library import names
    from neurosbd.measures import MEASURES

    text = (ROOT / "docs" / "regression.md").read_text()
    sets = [name for name in names("data") if load_file(name, READERS).targets]
    assert len(sets) >= 4
    for name in (*MEASURES, *sets):
        assert f"| `{name}` |" in text, name


def test_every_expansion_and_activation_is_in_its_page() -> None:
    from neurosbd.expansions import EXPANSIONS
    from neurosbd.neuromodulators import ACTIVATIONS

    for page, table in (("expansions.md", EXPANSIONS), ("rules.md", ACTIVATIONS)):
        text = (ROOT / "docs" / page).read_text()
        for name in table:
            assert f"`{name}`" in text, name


def test_what_keeps_a_network_alive_is_in_the_page_of_rules() -> None:
    from neurosbd.regularisers import HOMEOSTASES, UPKEEPS

    text = (ROOT / "docs" / "rules.md").read_text()
    for name in (*HOMEOSTASES, *UPKEEPS):
        assert f"| `{name}` |" in text, name


def test_every_layout_and_recipe_is_in_its_page() -> None:
    from neurosbd.config.recipes import RECIPES
    from neurosbd.neuromodulators import LAYOUTS

    for page, table in (("rules.md", LAYOUTS), ("results.md", RECIPES)):
        text = (ROOT / "docs" / page).read_text()
        for name in table:
            assert f"`{name}`" in text, name


def test_every_rule_says_where_it_was_run() -> None:
    """What it reaches and in how long. Must fail when a row is left out (tried)."""
    from neurosbd.rules import RULES

    text = (ROOT / "docs" / "rules.md").read_text()
    section = text[text.index("### Where each was run") : text.index("## Back through the network")]
    for name in RULES:
        assert f"`{name}`" in section, name


def test_every_analysis_is_in_its_page() -> None:
    from neurosbd.files.library import names

    text = (ROOT / "docs" / "analysis.md").read_text()
    for name in names("analysis"):
        assert f"| `{name}` |" in text, name


def test_public_names_are_what_they_say_in_any_order() -> None:
    """A module imported on the way must not hide the function of the same name."""
    import neurosbd

    assert callable(neurosbd.fit) and callable(neurosbd.unroll) and callable(neurosbd.load_data)
    for name in neurosbd.__all__:
        assert callable(getattr(neurosbd, name)) and name in dir(neurosbd)
    with pytest.raises(AttributeError, match="nothing"):
        _ = neurosbd.nothing


def test_the_walk_of_a_batch_goes_by_these_files(tmp_path: Path) -> None:
    """Each file of the page is entered between `fit` and the last gradient, and there are twelve at most. Must fail for
    a file that is not on the way (tried)."""
    page = (ROOT / "docs" / "ideas.md").read_text()
    walk = page[page.index("## The walk of a batch") : page.index("## Words")]
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", walk, re.MULTILINE)
    package, entered = Path(neurosbd.__file__).parent, set()

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        neurosbd.fit("digits-mlp", settings={"training.epochs": 1, "data.subset": 4}, out=tmp_path / "run")
    finally:
        sys.setprofile(before)
    assert 0 < len(listed) <= 12
    assert not [file for file in listed if str(package / file) not in entered]

"""Pages: HTML that stands alone, every string from outside escaped."""

from pathlib import Path

from neurosbd import __version__
from neurosbd.errors import OUT, UsageError
from neurosbd.files.writing import write_atomic
from neurosbd.report.run_summary import number
from neurosbd.text import printable

INDEX = "index.html"
_GENERATOR = b'<meta name="generator" content="neurosbd">'


def render(template: str, **content: object) -> str:
    """Fill a template of this folder.

    Args:
        template: 'page.html' or 'comparison.html'.
        content: what it shows; strings are escaped by jinja2.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["figure"] = number
    environment.finalize = _shown
    return environment.get_template(template).render(version=__version__, **content)


def _shown(value: object) -> object:
    """Text of strangers as `printable`; what is markup already has been through here."""
    return printable(value) if type(value) is str else value


def check_folder(folder: Path) -> None:
    """Make the folder of a page.

    Raises:
        UsageError: if it cannot be made, or holds a page of someone else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX
        if index.exists() and _GENERATOR not in index.read_bytes()[:1000]:
            raise UsageError(f"{index}: is not a page of neurosbd and is left alone; choose another {OUT}")
    except OSError as problem:
        raise UsageError(f"{folder}: cannot be written ({problem.strerror}); choose another {OUT}") from None


def install(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files of a page; the page itself comes last, so a reader never finds half of one.

    Raises:
        UsageError: if the disk refuses; the page before is kept.
    """
    try:
        for name in sorted(files, key=lambda name: name == INDEX):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            content = files[name]
            write_atomic(path, lambda stream, content=content: stream.write(content))
    except OSError as problem:
        raise UsageError(f"{folder}: cannot be written ({problem.strerror}); the page is not complete") from None

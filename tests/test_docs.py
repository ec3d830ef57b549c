"""The documentation keeps its word: commands parse, links lead somewhere, pages are reachable."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from semseg_cli import __version__
from semseg_cli.cli import root_command

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
PAGES = sorted({README, REPOSITORY / "CONTRIBUTING.md", *DOCS.glob("*.md")})
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def typed(page: Path) -> Iterator[list[str]]:
    """The words after `semseg-cli` of every command line in a page's code blocks."""
    for block in FENCED.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;", line.split("  #")[0]):
                if (words := command_in(part)) is not None:
                    yield words


def command_in(line: str) -> list[str] | None:
    start = re.match(r"\s*(semseg-cli|.*(torchrun|srun) .* -m semseg_cli) ", line)
    return None if start is None else shlex.split(line[start.end() :].replace("...", ""))


def parse(words: list[str]) -> None:
    """Raises what the command line raises for options and arguments that are not there."""
    command = root_command()
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    context = command.context_class(command, info_name="semseg-cli")
    command.make_parser(context).parse_args(args=words)


EXAMPLES = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
    for page in PAGES
    for words in typed(page)
    if words[0] != "--help"
]


@pytest.mark.parametrize("words", EXAMPLES)
def test_commands_in_the_docs_are_commands(words: list[str]) -> None:
    parse(list(words))


def test_a_command_that_is_none_is_found() -> None:
    assert len(EXAMPLES) > 30
    with pytest.raises(Exception, match="--no-such"):
        parse(["auto-feat", "--no-such", "1"])


def anchors(page: Path) -> set[str]:
    text = FENCED.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_one_step_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(README.read_text("utf-8"))}
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= linked


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.read_text("utf-8").split()) <= 1000


@pytest.mark.parametrize("page", ["cli", "troubleshooting"])
def test_pages_that_are_made_of_the_code_are_what_it_says(page: str) -> None:
    made = importlib.util.spec_from_file_location(f"make_{page}", DOCS / f"make_{page}.py")
    assert made
    assert made.loader
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    assert (DOCS / f"{page}.md").read_text("utf-8") == module.page()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_parser", reason="needs sphinx and myst-parser: the extra dev")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(DOCS)]
    done = subprocess.run([*command, REPOSITORY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'href="docs/concepts.html"' in (tmp_path / "README.html").read_text("utf-8")
    pages = {page.stem for page in (tmp_path / "docs").glob("*.html")}
    assert pages == {page.stem for page in DOCS.glob("*.md")}
    assert "README.html" in (tmp_path / "index.html").read_text("utf-8")


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()

"""What CONTRIBUTING.md says of the code is so."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = REPOSITORY / "semseg_cli"
FIRST_PART = re.compile(r"\.(prefix|residual)\(")
DEFINED_IN = {"vit", "pipeline.py"}  # a network's own parts
EXCEPTIONS = {"doctor", "plan.py", "demo"}


def subjects(pattern: re.Pattern[str]) -> set[str]:
    """The modules and folders of the package whose source has the pattern."""
    found = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return {path.parts[0] for path in found if pattern.search((PACKAGE / path).read_text("utf-8"))}


def test_the_first_part_runs_where_it_is_said_to() -> None:
    assert subjects(FIRST_PART) == {"residuals.py"} | DEFINED_IN | EXCEPTIONS
    told = (
        TEXT[TEXT.index("`residuals.Residuals`") :].split("\n\n")[0].split("\nA run is written")[0]
    )
    assert set(re.findall(r"`(\w+(?:\.py)?)/?`", told)) == EXCEPTIONS


def rows() -> dict[str, int]:
    """The line of the table that has a module or folder."""
    cells = re.findall(r"^\| (`.+?) \|", TEXT, re.MULTILINE)
    return {name: i for i, cell in enumerate(cells) for name in re.findall(r"`(.+?)/?`", cell)}


def test_every_module_has_a_line() -> None:
    found = {path.name for path in PACKAGE.glob("[a-z]*.py")}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert found - {"typed.py"} == rows().keys()


def test_flips_and_the_cache_commands_stand_above_what_they_import() -> None:
    line = rows()
    assert line["experiment.py"] < line["flips.py"] < line["session.py"]
    for imported in ("console.py", "presets", "tables.py", "cache_entries.py"):
        assert line["cache_commands.py"] < line[imported]

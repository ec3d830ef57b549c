"""What CONTRIBUTING.md says of the code is so."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = REPOSITORY / "semseg_cli"
FIRST_PART = re.compile(r"\.(prefix|residual)\(")
DEFINED_IN = {"models/vit", "models/pipeline.py"}  # a network's own parts
EXCEPTIONS = {
    "commands/doctor", "experiment/head_fit.py", "experiment/estimate.py", "commands/demo_build"
}  # fmt: skip


def subjects(pattern: re.Pattern[str]) -> set[str]:
    """The modules and rooms of the package whose source has the pattern."""
    found = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return {
        "/".join(path.parts[:2])
        for path in found
        if pattern.search((PACKAGE / path).read_text("utf-8"))
    }


def test_the_first_part_runs_where_it_is_said_to() -> None:
    assert subjects(FIRST_PART) == {"models/residuals.py"} | DEFINED_IN | EXCEPTIONS
    told = TEXT[TEXT.index("`models/residuals.Residuals`") :].split("\nA run is written")[0]
    assert set(re.findall(r"`([\w/]+(?:\.py)?)`", told)) == EXCEPTIONS


def test_every_room_has_a_line() -> None:
    rows = re.findall(r"^\| (`.+?) \|", TEXT, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(.+?)/?`", row)}
    modules = {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert named == modules | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

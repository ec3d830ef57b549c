"""Imports go down the floors of the house; rooms of one floor do not know each other."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "semseg_cli"
FLOORS = (
    {"__main__", "__init__"},
    {"cli", "quantitative", "api"},
    {"commands"},
    {"experiment"},
    {"engine", "tracking"},
    {"show"},
    {"models", "runs"},
    {"data", "settings"},
    {"ranks", "demo", "files", "readers"},
    {"progress"},
    {"streams"},
    {"errors", "interrupts", "typed"},
)


def floor_of(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imported(source: str) -> set[str]:
    """The modules of the package that a source imports, from the package down."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("semseg_cli"):
            inside = (node.module or "").removeprefix("semseg_cli").lstrip(".")
            found |= {inside} if inside else {alias.name for alias in node.names}
    return found - {"__version__"}


def crossings(module: str, source: str) -> set[str]:
    """What a module imports from its own floor or one above, other than its own room."""
    own = module.split(".")[0]
    rooms = {name: name.split(".")[0] for name in imported(source)}
    return {
        f"{module} -> {name}"
        for name, room in rooms.items()
        if room != own and floor_of(room) <= floor_of(own)
    }


def modules() -> dict[str, str]:
    paths = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    return {".".join(p.with_suffix("").parts): path.read_text("utf-8") for p, path in paths.items()}


def test_imports_go_down() -> None:
    found = set().union(*(crossings(name, source) for name, source in modules().items()))
    assert found == set()


def test_an_import_that_goes_up_is_found() -> None:
    up = "from semseg_cli.commands.stats import make_stats"
    across = "def f():\n    from semseg_cli import tracking"
    assert crossings("models.head", up) == {"models.head -> commands.stats"}
    assert crossings("show.console", across) == {"show.console -> tracking"}
    assert crossings("show.console", "from semseg_cli.runs.report import Report") == set()


def test_homes_are_found_in_one_place() -> None:
    """Elsewhere the home of nobody would end in a traceback."""
    assert [name for name, source in modules().items() if ".expanduser(" in source] == ["files"]


def test_the_listing_of_the_package_is_short() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 24

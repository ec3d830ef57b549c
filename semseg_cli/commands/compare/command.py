"""The `compare` command: runs side by side, or their classes.

No torch, and no mlflow until a store is opened.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.table_of_classes import class_comparison
from semseg_cli.commands.compare.table_of_runs import comparison, comparison_rows
from semseg_cli.commands.compare.two_runs import against_each_other
from semseg_cli.commands.compare.which_runs import candidates
from semseg_cli.errors import SemsegError
from semseg_cli.settings.compare import Compare
from semseg_cli.show.tables import Table


def compare(settings: Compare, wanted: Sequence[str] = (), width: int = 80) -> Table:
    """One row per run (or per class), for a terminal of this width; writes `settings.plot`.

    Of two runs that are named, and nothing else, one row per metric and setting that differs.

    The runs are those that `wanted` names, else the newest finished one of each kind.

    Raises:
        UsageError: an unknown method, class or column.
        SemsegError: no such run, or no finished one.
    """
    by_class = settings.per_class or bool(settings.classes)
    chosen = candidates(settings, wanted, by_class=by_class)
    artifacts = Artifacts()
    if settings.plot is not None:
        plot(comparison_rows(chosen, settings, artifacts), settings.plot)
    if by_class:
        return class_comparison(chosen, settings, artifacts)
    if len(wanted) == len(chosen.shown) == 2 and not _is_arranged(settings):
        return against_each_other(chosen, settings, artifacts)
    return comparison(chosen, settings, artifacts, _limit(settings, width))


def _is_arranged(settings: Compare) -> bool:
    """Whether a table of runs is asked for: with another baseline, in an order, by its columns."""
    asked = (settings.baseline, settings.columns, settings.sort, settings.top)
    return settings.all_columns or any(value is not None for value in asked)


def _limit(settings: Compare, width: int) -> int | None:
    """The width that columns must share; files are 80 wide, and only tables have a width."""
    if settings.output_format != "table":
        return None
    return width if settings.output is None else 80


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws target and other change of the runs.

    Raises:
        SemsegError: the file cannot be written.
    """
    from semseg_cli.show.charts import comparison_figure

    drawn = [row for row in rows if row.get("macro_target_change") is not None]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        comparison_figure(drawn, path)
    except (OSError, ValueError) as error:
        raise SemsegError(
            f"Cannot write {path} ({error}): give another --plot FILE.png."
        ) from error

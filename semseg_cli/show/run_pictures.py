"""What a run folder shows: its charts, its examples, its report.html. Made from its files.

What cannot be drawn is reported and left out: a picture never costs a run its results.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semseg_cli.files import make_folder
from semseg_cli.progress import stage
from semseg_cli.runs.folder import (
    CHANGES_FILE,
    CLASSES_FILE,
    PAGE_FILE,
    REPORT_FILE,
    RunFolder,
)
from semseg_cli.runs.rows import Row, per_draw, read_rows
from semseg_cli.show.console import say

log = logging.getLogger("semseg_cli")
CURVE = "dose_response"


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Goes on after an error in the block; says so, and keeps the traceback in the run's log."""
    try:
        yield
    except Exception as error:
        log.exception("%s: failed", what)
        say(f"No {what} ({type(error).__name__}: {error}): the results themselves are complete.")


def add_all_pictures(folders: Sequence[RunFolder]) -> None:
    """The pictures of the runs of one sweep, each with the dose-response curve of all of them."""
    sweep: list[Row] = []
    with attempt("dose-response curve"):
        sweep = [dose_row(folder) for folder in folders if _has_report(folder)]
    with stage("Drawing the pictures"):
        for folder in folders[:1]:
            add_pictures(folder, sweep)
        for folder in folders[1:]:
            with attempt("dose-response curve"):
                _copy_curve(folders[0], folder)
            add_pictures(folder)


def _copy_curve(drawn: RunFolder, folder: RunFolder) -> None:
    for path in (drawn.path / "plots").glob(f"{CURVE}.*"):
        make_folder(folder.path / "plots")
        folder.write(f"plots/{path.name}", path.read_bytes())


def add_pictures(folder: RunFolder, sweep: Sequence[Row] = ()) -> None:
    """Draws plots/*.png and *.svg of a run, then report.html of all that its folder holds.

    A run without a report (a lookup) gets report.html only. `sweep` has the `dose_row` of every
    run of its sweep; two scales make a curve.
    """
    rows: Sequence[Row] = []
    numbers: Mapping[str, float] = {}
    if _has_report(folder):
        with attempt("numbers"):
            report = folder.report()
            numbers = report.metrics()
            rows = per_draw(read_rows(folder.path / CLASSES_FILE), report.n_draws)
        for name, draw in _charts(folder, rows, sweep).items():
            with attempt(f"picture {name}"):
                draw(folder.path / "plots" / name)
    with attempt(PAGE_FILE):
        from semseg_cli.show.html_report import report_html

        folder.write(PAGE_FILE, report_html(folder, rows, numbers).encode())


def _has_report(folder: RunFolder) -> bool:
    return (folder.path / REPORT_FILE).exists()


def _charts(
    folder: RunFolder, rows: Sequence[Row], sweep: Sequence[Row]
) -> dict[str, Callable[[Path], None]]:
    """File name -> what draws it, for the charts that have something to show."""
    found: dict[str, Callable[[Path], None]] = {}
    if rows:
        found |= {
            "target_other.png": lambda path: _draw_classes(folder, rows, path),
            "changes.png": lambda path: _draw_flows(folder, path),
        }
    if any(row["selectivity"] is not None for row in rows):  # else the only class is everywhere
        found["best_worst.png"] = lambda path: _draw_extremes(folder, rows, path)
    drawn = [row for row in sweep if "macro_target_change" in row]
    if len({row["scale"] for row in drawn}) > 1:
        found[f"{CURVE}.png"] = lambda path: _draw_dose(folder, drawn, path)
    return found


def _draw_classes(folder: RunFolder, rows: Sequence[Row], path: Path) -> None:
    from semseg_cli.show.charts import class_figure

    class_figure(rows, path, folder.report().min_patches)


def _draw_extremes(folder: RunFolder, rows: Sequence[Row], path: Path) -> None:
    from semseg_cli.show.charts import extremes_figure

    extremes_figure(rows, path, folder.report().min_patches)


def _draw_flows(folder: RunFolder, path: Path) -> None:
    import pandas as pd

    from semseg_cli.show.change_chart import flow_figure

    frame = pd.read_parquet(folder.path / CHANGES_FILE)
    flows: list[Any] = frame.to_dict("records")
    results = folder.report().class_results
    flow_figure(flows, {result.class_id: result.n_orig_patches for result in results}, path)


def _draw_dose(folder: RunFolder, sweep: Sequence[Row], path: Path) -> None:
    from semseg_cli.show.charts import dose_figure

    meta = folder.meta
    dose_figure(sweep, path, f"{meta['command']}, {meta['protocol']} protocol")


def dose_row(folder: RunFolder) -> dict[str, Any]:
    """A run's scale and numbers with their intervals."""
    return folder.report().metrics()

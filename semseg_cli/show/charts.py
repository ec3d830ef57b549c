"""Charts of results: rows in, one picture file out.

Rows are mappings as in class_results.csv. A value `x` may come with `x_lo` and `x_hi`, the ends of
its 95% interval; where they are missing no bar is drawn.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from semseg_cli.runs import metrics
from semseg_cli.runs.rows import Row
from semseg_cli.show.chart_style import (
    GRID,
    INK,
    OTHER,
    PAPER,
    TARGET,
    add_title,
    name_rows,
    new_figure,
    save_figure,
    save_plot,
    short_name,
    tidy,
)

ROWS_PER_COLUMN = 50
Quantities = tuple[tuple[str, str, str], ...]  # key, label, colour


def _quantities(of: tuple[metrics.Metric, ...]) -> Quantities:
    """The shares that are drawn against each other; their difference ranks the classes."""
    shares = [metric for metric in metrics.shown(of, "plots") if metric.unit == "share"]
    return tuple(
        (metric.key, metric.name, colour)
        for metric, colour in zip(shares, (TARGET, OTHER), strict=True)
    )


OF_CLASSES, OF_RUNS = _quantities(metrics.CLASSES), _quantities(metrics.RUNS)


def _interval(rows: Sequence[Row], key: str) -> np.ndarray:
    """How far each interval reaches below and above its value; NaN where there is none."""
    ends = [tuple(row.get(f"{key}{end}") for end in ("_lo", "", "_hi")) for row in rows]
    known = np.array([[math.nan if v is None else v for v in one] for one in ends], dtype=float)
    known = known.reshape(-1, 3)
    reach = np.stack([known[:, 1] - known[:, 0], known[:, 2] - known[:, 1]])
    return np.where(np.isnan(reach).any(axis=0), math.nan, reach.clip(min=0))


# --- target against other -----------------------------------------------------------------------


def class_figure(rows: Sequence[Row], path: Path, min_patches: int = 0) -> None:
    """Writes `class_chart` as pixels and lines."""
    save_plot(class_chart(rows, min_patches), path)


def class_chart(rows: Sequence[Row], min_patches: int = 0) -> Figure:
    """Target and other change of every class, by falling selectivity.

    Classes without predicted patches are left out; those with fewer than `min_patches` come last,
    hollow. A class without others has its target change alone.
    """
    shown = sorted(
        (row for row in rows if row["target_change"] is not None),
        key=lambda row: (
            row["n_orig_patches"] < min_patches,
            -(row["selectivity"] or 0.0),
            row["class_id"],
        ),
    )
    names = [short_name(row["class_name"]) for row in shown]
    is_few = [row["n_orig_patches"] < min_patches for row in shown]
    notes = [f"hollow: fewer than {min_patches} predicted patches"] if any(is_few) else []
    if left := len(rows) - len(shown):
        notes.append(f"{left} without predicted patches left out")
    title = "Target and other change by class" + (f"\n{'; '.join(notes)}" if notes else "")
    return _change_figure(shown, names, is_few, title, OF_CLASSES)


def comparison_figure(rows: Sequence[Row], path: Path) -> None:
    """Writes `comparison_chart`.

    Raises:
        SemsegError: the file's suffix names no format, or it cannot be written.
    """
    save_figure(comparison_chart(rows), path, "--plot")


def comparison_chart(rows: Sequence[Row]) -> Figure:
    """Target and other change of several runs, in their order; rows are named by `run`."""
    names = [f"{short_name(row['run'], 40)}{_untold(row)}" for row in rows]
    title = "Target and other change by run, means over classes"
    return _change_figure(rows, names, [False] * len(rows), title, OF_RUNS)


def _untold(row: Row) -> str:
    """Why a run has no point."""
    return "" if row.get(OF_RUNS[0][0]) is not None else " (no class has enough patches)"


def _change_figure(
    rows: Sequence[Row],
    names: Sequence[str],
    is_few: Sequence[bool],
    title: str,
    quantities: Quantities,
) -> Figure:
    n_columns = max(1, math.ceil(len(rows) / ROWS_PER_COLUMN))
    n_lines = max(1, math.ceil(len(rows) / n_columns))
    figure = new_figure(7.5 if n_columns == 1 else 5.0 * n_columns, 1.5 + 0.21 * n_lines)
    columns = figure.subplots(1, n_columns, squeeze=False, sharex=True)[0]
    columns[0].set_xlim(*_range(rows, quantities))
    for number, axes in enumerate(columns):
        part = slice(number * n_lines, (number + 1) * n_lines)
        _draw_changes(axes, rows[part], names[part], is_few[part], quantities)
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    add_title(figure, title)
    return figure


def _draw_changes(
    axes: Axes,
    rows: Sequence[Row],
    names: Sequence[str],
    is_few: Sequence[bool],
    quantities: Quantities,
) -> None:
    tidy(axes, "x")
    places = np.arange(len(rows))
    ends = [[_number(row.get(key)) for row in rows] for key, _, _ in quantities]
    axes.hlines(places, ends[0], ends[1], color=GRID, linewidth=2, zorder=1)
    for key, label, colour in quantities:
        values = np.array([_number(row.get(key)) for row in rows])
        bars = _interval(rows, key)
        axes.errorbar(
            values, places, xerr=bars, fmt="none", ecolor=colour, elinewidth=1.4, capsize=2.5
        )
        faces = [PAPER if few else colour for few in is_few]
        axes.scatter(values, places, 22, faces, edgecolors=colour, linewidths=1.2, zorder=3)
        axes.scatter([], [], 22, colour, label=label)
    name_rows(axes, names)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("patches that changed class", fontsize=8, color=INK)


def _range(rows: Sequence[Row], quantities: Quantities) -> tuple[float, float]:
    """From zero to a little beyond the largest value; small effects fill the picture too."""
    largest = max((row.get(f"{key}_hi") or row.get(key) or 0.0 for row in rows
                   for key, _, _ in quantities), default=1.0)  # fmt: skip
    end = max(0.01, min(1.0, 1.1 * largest))
    return -0.02 * end, 1.02 * end


# --- dose and response --------------------------------------------------------------------------


def dose_figure(rows: Sequence[Row], path: Path, title: str = "") -> None:
    """Writes `dose_chart` as pixels and lines."""
    save_plot(dose_chart(rows, title), path)


def dose_chart(rows: Sequence[Row], title: str = "") -> Figure:
    """Macro target and other change against the scale, one row per scale, intervals as bands.

    The curves pass 0 at the ablation where there is one, else at the clean image, on which nothing
    changes; that point is hollow. A second axis above has the edit's length by the residual's at
    each scale, where it is known.
    """
    ordered = sorted(rows, key=lambda row: row["scale"])
    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    tidy(axes, "both")
    points = ordered
    if all(row["scale"] != 0 for row in ordered):
        clean = {"scale": 0.0, **{f"{key}{end}": 0.0 for key, _, _ in OF_RUNS for end in _ENDS}}
        points = sorted([*ordered, clean], key=lambda row: row["scale"])
    for (key, label, colour), marker in zip(OF_RUNS, "os", strict=True):
        scales, values, lo, hi = (
            np.array([_number(row.get(name)) for row in points])
            for name in ("scale", key, f"{key}_lo", f"{key}_hi")
        )
        axes.plot(scales, values, color=colour, linewidth=1.8, label=label)
        axes.fill_between(scales, lo, hi, color=colour, alpha=0.18, linewidth=0)
        measured = [_number(row.get(key)) for row in ordered]
        axes.scatter(
            [row["scale"] for row in ordered], measured, 30, colour, marker=marker, zorder=3
        )
    axes.scatter([0], [0], 34, PAPER, edgecolors=INK, linewidths=1.2, zorder=4, label="clean")
    _add_ratios(axes, ordered)
    axes.set_xlabel("scale (0: ablation)", fontsize=9, color=INK)
    axes.set_ylabel("patches that changed class", fontsize=9, color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    low, high = _range(ordered, OF_RUNS)
    axes.set_ylim(1.5 * low, 1.03 * high)
    axes.legend(frameon=False, fontsize=9)
    add_title(figure, f"Dose and response: {title}" if title else "Dose and response")
    return figure


def _add_ratios(axes: Axes, rows: Sequence[Row]) -> None:
    known = [row for row in rows if row.get("edit_ratio") is not None]
    if not known:
        return
    above = axes.secondary_xaxis("top")
    above.set_xticks([row["scale"] for row in known], [f"{row['edit_ratio']:.2f}" for row in known])
    above.set_xlabel("length of the edit by that of the residual", fontsize=9, color=INK)
    above.tick_params(labelsize=8, colors=INK, length=3)
    above.spines["top"].set_visible(False)


_ENDS = ("", "_lo", "_hi")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# --- best and worst classes ---------------------------------------------------------------------


def extremes_figure(
    rows: Sequence[Row], path: Path, min_patches: int = 0, n_most: int = 10
) -> None:
    """Selectivity of the `n_most` best and worst classes with at least `min_patches` patches."""
    ranked = sorted(
        (
            row
            for row in rows
            if row["selectivity"] is not None and row["n_orig_patches"] >= max(1, min_patches)
        ),
        key=lambda row: (-row["selectivity"], row["class_id"]),
    )
    is_cut = len(ranked) > 2 * n_most
    best, worst = (ranked[:n_most], ranked[-n_most:]) if is_cut else (ranked, [])
    figure = new_figure(7.0, 1.3 + 0.26 * (len(best) + len(worst) + is_cut))
    axes = figure.subplots()
    tidy(axes, "x")
    for group, start, colour in ((best, 0, TARGET), (worst, len(best) + 1, OTHER)):
        values = [row["selectivity"] for row in group]
        axes.barh(
            np.arange(len(group)) + start, values, 0.7, color=colour, alpha=0.85,
            xerr=_interval(group, "selectivity"),
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
        )  # fmt: skip
    names = [short_name(row["class_name"]) for row in best]
    names += ["⋮", *(short_name(row["class_name"]) for row in worst)] if is_cut else []
    name_rows(axes, names)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("selectivity: target change minus other change", fontsize=8, color=INK)
    left = len(rows) - len(ranked)
    few = f"; {left} with fewer than {max(1, min_patches)} predicted patches left out"
    title = f"The {n_most} best and {n_most} worst" if is_cut else f"All {len(ranked)}"
    add_title(figure, f"{title} classes by selectivity{few if left else ''}")
    save_plot(figure, path)

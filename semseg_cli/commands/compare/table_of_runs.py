"""Runs side by side: one row each, what differs as columns. No torch, no mlflow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from semseg_cli.commands.compare.artifacts import Artifacts
from semseg_cli.commands.compare.dictionaries import dictionary_names
from semseg_cli.commands.compare.notes import captions
from semseg_cli.commands.compare.over_classes import common_classes, n_asked, over_what
from semseg_cli.commands.compare.rows_and_columns import arranged, check_columns, wanted_columns
from semseg_cli.commands.compare.settings_apart import all_settings, differing
from semseg_cli.commands.compare.uncertainty import run_values
from semseg_cli.commands.compare.units import Units
from semseg_cli.commands.compare.which_runs import Candidates
from semseg_cli.runs.metrics import RUNS, SHORT, is_detail
from semseg_cli.runs.rows import Row
from semseg_cli.settings.compare import View
from semseg_cli.show.run_notes import half_effect_text
from semseg_cli.show.run_tables import METRICS, NAME, best_row, present, to_column
from semseg_cli.show.tables import GAP, Column, Table, Widths
from semseg_cli.tracking.tracked_run import TrackedRun, setting_of

STATUS = Column("status", "status", "text")
DICTIONARY = Column("dictionary", "SAE", "text", elastic=True)
# What the column of the dictionary says in fewer words, or what follows from the SAE.
OF_DICTIONARIES = frozenset({"sae_ckpt", "sae_format", "act_mean", "act_norm", "sparsity",
                             "top_values", "vit_layer", "vit_site"})  # fmt: skip
OF_RUNS = {metric.key: metric for metric in RUNS}


def comparison(
    chosen: Candidates, view: View, artifacts: Artifacts, limit: int | None = None
) -> Table:
    """The table of these runs; what they have in common is in the notes.

    Where the width is limited, settings that differ and do not fit are named there too.
    """
    rows = comparison_rows(chosen, view, artifacts)
    columns, hidden = _columns(chosen, view, rows, limit)
    shown = arranged(rows, view)
    units = Units(view.group_by)
    notes = captions(chosen, rows, [column.key for column in columns], artifacts, units, hidden)
    classes = [*common_classes(chosen.shown, artifacts).values()]
    over = over_what(rows, classes, n_asked(chosen.shown, artifacts))
    return Table(f"{title(chosen.shown, len(shown))}: {over}", columns, tuple(shown), tuple(notes),
                 best_row(shown))  # fmt: skip


def comparison_rows(chosen: Candidates, view: View, artifacts: Artifacts) -> list[dict[str, Any]]:
    """Everything known of each run under the keys that CSV has."""
    runs, settings = chosen.shown, _settings(chosen.shown, view)
    values = run_values(chosen, artifacts, Units(view.group_by))
    called = dictionary_names(runs)
    return [
        {
            "run": name,
            "method": run.tag("method"),
            "protocol": run.tag("protocol"),
            **({DICTIONARY.key: called[run.run_id]} if called else {}),
            **{setting: setting_of(run, setting) for setting in settings},
            **{n: _whole(n, v) for n, v in values[run.run_id].items()},
            **_half_effect(values[run.run_id]),
            "experiment": run.experiment,
            "status": run.status,
            "started": run.started.isoformat(timespec="seconds"),
            "run_id": run.run_id,
        }
        for run, name in zip(runs, row_names(runs), strict=True)
    ]


def _whole(name: str, value: Any) -> Any:
    """A count as a whole number; stores keep floats."""
    return int(value) if name.startswith("n_") and value is not None else value


def _half_effect(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The half effect of a curve that ends before it: `> 4`."""
    text = half_effect_text(metrics)
    is_beyond = text is not None and "half_effect_scale" not in metrics
    return {"half_effect_scale": text} if text is not None and is_beyond else {}


def title(runs: Sequence[TrackedRun], n_rows: int) -> str:
    experiments = ", ".join(dict.fromkeys(run.experiment for run in runs))
    noun = "run" if len(runs) == 1 else "runs"
    count = f"{n_rows} of {len(runs)}" if n_rows < len(runs) else str(len(runs))
    return f"{count} {noun} of experiment {experiments}"


def row_names(runs: Sequence[TrackedRun]) -> list[str]:
    """The names of the runs; where two are alike with the ends of their folders' names, or their
    ids where those are alike too."""
    times = Counter(run.name for run in runs)
    short = Counter((run.name, run.short_id) for run in runs)
    ends = [run.short_id if short[run.name, run.short_id] == 1 else run.run_id for run in runs]
    return [
        f"{run.name} ({end})" if times[run.name] > 1 else run.name
        for run, end in zip(runs, ends, strict=True)
    ]


def _settings(runs: Sequence[TrackedRun], view: View) -> list[str]:
    """The settings that rows hold: those that differ, and those asked for."""
    shown = differing(runs)
    wanted = {*wanted_columns(view), (view.sort or "").removeprefix("-")}
    return [
        name for name in all_settings(runs) if view.all_columns or name in shown or name in wanted
    ]


def _columns(
    chosen: Candidates, view: View, rows: Sequence[Row], limit: int | None
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns to show, and the names of the differing settings that have no place."""
    known = _known(chosen, rows)
    if wanted := wanted_columns(view):
        check_columns(wanted, known, view)
        named = [known.get(name) or Column(name, name) for name in wanted if name != "run"]
        return _staying([NAME, *named]), []
    if view.all_columns:
        return _staying([c for key, c in known.items() if not is_beside(key)]), []
    settings = _told_apart([known[name] for name in differing(chosen.shown)], rows)
    states = [STATUS] if len({row["status"] for row in rows}) > 1 else []
    metrics = present(_metrics(chosen), rows)
    levels = sorted({0, *(column.yields for column in metrics)})
    first, *yielding = ([one for one in metrics if one.yields == level] for level in levels)
    every = [NAME, *states, *settings, *metrics] if limit is not None else []
    widths = {column: Widths.of(column, rows, view.precision) for column in every}
    kept, hidden = [NAME, *states, *first], []
    for group in (*([column] for column in settings), *yielding):
        if limit is None or _width([widths[one] for one in (*kept, *group)], rows) <= limit:
            kept += group
        elif group not in yielding and group != [DICTIONARY]:  # its caption names it
            hidden += [column.key for column in group]
    order = [NAME, *states, *settings, *metrics]
    return _staying([column for column in order if column in kept]), hidden


def _told_apart(settings: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns of settings that differ; where dictionaries do, one column stands for theirs."""
    if not any(DICTIONARY.key in row for row in rows):
        return list(settings)
    return [DICTIONARY, *(column for column in settings if column.key not in OF_DICTIONARIES)]


def _staying(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns that were asked for: none yields."""
    return tuple(replace(column, yields=0) for column in columns)


def is_beside(key: str) -> bool:
    """Whether a key stands beside a number that has a column."""
    return is_detail(key) is not None or key.endswith(("_mark", "unit", "_p_method"))


def _metrics(chosen: Candidates) -> list[Column]:
    """The columns of metrics; that of the difference names the baseline."""
    words = chosen.baseline.split()
    is_short = all(len(word) <= 11 for word in words) and len(words) <= 2
    name = "\n".join(words) if is_short else "baseline"
    header = f"vs {name}" if len(name) < 8 else f"vs\n{name}"
    return [replace(c, header=header) if c.key == SHORT["difference"] else c for c in METRICS]


def _known(chosen: Candidates, rows: Sequence[Row]) -> dict[str, Column]:
    """Every key of the rows as a column."""
    named = {column.key: column for column in (NAME, *_metrics(chosen), STATUS, DICTIONARY)}
    settings = {*all_settings(chosen.shown)} - set(named)
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: named.get(key) or _plain_column(key, rows, key in settings) for key in keys}


def _plain_column(key: str, rows: Sequence[Row], is_setting: bool) -> Column:
    header = key.replace("_", "\n")
    if is_setting:
        return Column(key, header, "setting")
    if key in OF_RUNS:
        return to_column(OF_RUNS[key])
    values = [row[key] for row in rows if row.get(key) is not None]
    if any(isinstance(value, str) for value in values):
        return Column(key, header, "text")
    return Column(key, header, "setting" if key.startswith("n_") else "ratio")


def _width(widths: Sequence[Widths], rows: Sequence[Row]) -> int:
    """The width that the columns need at least; a name may wrap where rows have two lines."""
    name, *others = widths
    natural = min(14, name.natural)
    is_high = any(row.get("macro_selectivity_lo") is not None for row in rows)
    first = min(natural, name.least) if is_high else natural
    return first + sum(GAP + one.natural for one in others)

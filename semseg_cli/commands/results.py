"""The runs of methods as tables: their numbers, their classes."""

from collections.abc import Sequence
from typing import Any

from semseg_cli.commands.method_runs import Finished
from semseg_cli.experiment.result_files import choice_rows, class_rows
from semseg_cli.runs.choice import choice_notes
from semseg_cli.runs.contents import notes_of
from semseg_cli.runs.report import Report
from semseg_cli.runs.rows import per_draw
from semseg_cli.settings.methods import is_control
from semseg_cli.show.run_notes import by_run, of_class_rows
from semseg_cli.show.run_tables import class_table, extremes_table, summary_table
from semseg_cli.show.tables import Table

MACRO = ("macro_target_change", "macro_other_change", "macro_selectivity")


def names_of(runs: Sequence[Finished]) -> list[str]:
    """The names of runs, told apart where two are alike."""
    names = [one.name for one in runs]
    return [
        f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def rows_of(run: Finished) -> list[dict[str, Any]]:
    """One row per class, with its latent where it has one, and its intervals."""
    return class_rows(run.outcome)


def classes_of(runs: Sequence[Finished]) -> Table:
    """All classes of all runs; the rows have the means over the classes of their run, too."""
    rows = [
        {
            "run": name,
            "scale": one.outcome.report.intervention_scale,
            **row,
            "in_macro": int(row["class_id"] in over),
            **means,
        }
        for name, one in _named(runs)
        for means in [_means(one.outcome.report)]
        for over in [{result.class_id for result in one.outcome.report.macro_results}]
        for row in rows_of(one)
    ]
    return class_table(rows, notes=_notes(runs))


def _means(report: Report) -> dict[str, float]:
    """The means over the classes of a run, with their intervals where they have one; over how many
    draws patches are counted, where over several."""
    metrics = report.metrics()
    keys = [f"{key}{end}" for key in MACRO for end in ("", "_lo", "_hi")] + ["n_draws"]
    return {key: metrics[key] for key in keys if key in metrics}


def summary_of(runs: Sequence[Finished]) -> Table:
    """One row per run, and what all numbers are over."""
    reports = {name: one.outcome.report for name, one in _named(runs)}
    return summary_table(reports, notes=_notes(runs))


def _notes(runs: Sequence[Finished]) -> list[str]:
    """What the folders note of their runs."""
    return by_run({name: notes_of(one.folder) for name, one in _named(runs)})


def _named(runs: Sequence[Finished]) -> list[tuple[str, Finished]]:
    return list(zip(names_of(runs), runs, strict=True))


def extremes_of(runs: Sequence[Finished]) -> Table:
    """The most and the least selective classes of the first method that is no control (of the
    first, where all are), at its most selective scale."""
    first = next((one.method for one in runs if not is_control(one.method)), runs[0].method)
    of_first = [i for i, one in enumerate(runs) if one.method == first]
    best = max(of_first, key=lambda i: runs[i].outcome.report.macro_selectivity)
    which = names_of(runs)[best] if len(runs) > 1 else ""
    outcome = runs[best].outcome
    rows = per_draw(class_rows(outcome), outcome.report.n_draws)
    is_told = any("stability" in row for row in rows)  # of the latents that were chosen
    said = [of_class_rows(outcome.report), *(choice_notes(choice_rows(outcome)) if is_told else ())]
    return extremes_table(rows, outcome.report.min_patches, which=which, notes=said)

"""The runs of methods as tables: their numbers, their classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from semseg_cli.commands.method_runs import Finished
from semseg_cli.commands.opening import demo_notes
from semseg_cli.experiment.flip_rate import FLIP_RATE, flip_note
from semseg_cli.experiment.result_files import choice_rows, class_rows
from semseg_cli.runs.choice import choice_notes
from semseg_cli.runs.contents import is_chosen_on_evaluation
from semseg_cli.runs.groups import sampling_notes
from semseg_cli.settings.methods import Method
from semseg_cli.show.run_tables import (
    ON_EVALUATION,
    class_table,
    extremes_table,
    measure_notes,
    summary_table,
)
from semseg_cli.show.tables import Table


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
    """All classes of all runs."""
    rows = [
        {"run": name, "scale": one.outcome.report.intervention_scale, **row}
        for name, one in zip(names_of(runs), runs, strict=True)
        for row in rows_of(one)
    ]
    return class_table(rows, notes=demo_notes(runs[0].outcome.session.setup))


def summary_of(runs: Sequence[Finished]) -> Table:
    """One row per run, and what all numbers are over."""
    names = names_of(runs)
    reports = {name: one.outcome.report for name, one in zip(names, runs, strict=True)}
    on_evaluation = any(is_chosen_on_evaluation(one.folder) for one in runs)
    first = runs[0].outcome
    notes = [*demo_notes(first.session.setup), *([ON_EVALUATION] if on_evaluation else [])]
    patches_bc = first.counts.per_image[..., 0].numpy()
    notes += sampling_notes(first.session.dataset.names, first.groups, patches_bc)
    of_methods = list({id(one.method): one for one in runs}.values())
    for one in of_methods:
        said = [*_of_draws(one.method, one.outcome.report.n_draws)]
        said += measure_notes(one.outcome.report)
        notes += said if len(of_methods) == 1 else [f"{one.method.command}: {s}" for s in said]
    if FLIP_RATE in first.report.extra:
        dtype, rate = first.session.setup.dtype, first.report.extra[FLIP_RATE]
        notes.append(flip_note(dtype, rate, first.report.n_images))
    return summary_table(reports, notes=notes)


def extremes_of(runs: Sequence[Finished]) -> Table:
    """The most and the least selective classes of the most selective run."""
    best = max(range(len(runs)), key=lambda i: runs[i].outcome.report.macro_selectivity)
    which = names_of(runs)[best] if len(runs) > 1 else ""
    outcome = runs[best].outcome
    rows = [one_draw(row, outcome.report.n_draws) for row in class_rows(outcome)]
    is_told = any("stability" in row for row in rows)  # of the latents that were chosen
    said = choice_notes(choice_rows(outcome)) if is_told else ()
    return extremes_table(rows, outcome.report.min_patches, which=which, notes=said)


def _of_draws(method: Method, n_draws: int) -> list[str]:
    """What a control's numbers say of other draws."""
    if not method.is_drawn_by_class:
        return []
    if n_draws == 1:
        return [
            "One random draw for each class: [ ] leaves out how far other draws (--seed) differ."
        ]
    return [f"{n_draws} random draws for each class, counted together."]


def one_draw(row: Mapping[str, Any], n_draws: int) -> dict[str, Any]:
    """A class's row with its patches counted once, however many draws there were."""
    if n_draws == 1:
        return dict(row)
    kept = {key: value for key, value in row.items() if key != "n_changed_patches"}
    return {**kept, "n_orig_patches": row["n_orig_patches"] // n_draws}

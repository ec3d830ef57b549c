"""A method's runs, from their settings to the last printed line."""

from collections.abc import Mapping, Sequence
from typing import Any

from semseg_cli.commands.method_runs import datasets_of, planned_runs, write_run
from semseg_cli.commands.next_steps import compare_commands, print_where
from semseg_cli.commands.opening import open_parts, open_store, print_plan
from semseg_cli.commands.recording import finish, recorded, shared_meta
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.commands.same_settings import require_same_settings
from semseg_cli.experiment.choose_latents import check_method
from semseg_cli.experiment.examples import add_examples
from semseg_cli.experiment.flip_rate import FLIP_RATE, flip_note
from semseg_cli.experiment.result_files import (
    choice_rows,
    class_rows,
)
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.samples import image_groups, refuse_overlap, warn_of_seen, with_draws
from semseg_cli.experiment.top_images import add_latents
from semseg_cli.ranks.ending import together
from semseg_cli.ranks.group import from_lead, is_lead
from semseg_cli.runs.choice import choice_notes
from semseg_cli.runs.contents import is_chosen_on_evaluation
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.groups import sampling_notes
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Output, Shown
from semseg_cli.show import console
from semseg_cli.show.run_pictures import add_all_pictures
from semseg_cli.show.run_tables import (
    ON_EVALUATION,
    class_table,
    extremes_table,
    measure_notes,
    summary_table,
)


@together()
def intervene(setup: Setup, method: Method, output: Shown) -> None:
    """Runs one method at its scales: folders, tracking, tables."""
    require_same_settings(setup, method, output)
    store = open_store(output)
    reused = _reused(method, output)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = open_parts(setup, output, progress)
        method = with_draws(session, method)
        if output.dry_run:
            print_plan(session, [method])
            return
        check_method(session, method, reused)
        image_groups(session)
        datasets = datasets_of(session, [method], reused)
        refuse_overlap(session, method)
        warn_of_seen(session)
        if not is_lead():
            run(session, [method], reused, progress)
            return
        shared = {**shared_meta(session, output, datasets), "protocol": setup.protocol}
        planned = planned_runs(session.setup, method, reused, output.run_name)
        with recorded(planned, shared, output, store) as folders:
            outcomes = run(session, [method], reused, progress)
            for folder, outcome in zip(folders, outcomes, strict=True):
                write_run(folder, method, outcome)
            _draw(outcomes, folders, output)
    _print_outcomes(method, outcomes, folders, output, setup.dtype)
    if store is not None:
        finish(folders)
    print_where(folders, store, output, compare_commands(store, folders))


def _draw(outcomes: Sequence[Outcome], folders: Sequence[RunFolder], output: Shown) -> None:
    if output.no_plots:
        return
    if output.examples:
        for folder, outcome in zip(folders, outcomes, strict=True):
            add_examples(folder, outcome.session, outcome, output.examples)
    add_latents(folders, outcomes)
    add_all_pictures(folders)


def _reused(method: Method, output: Output) -> dict[str, Reused]:
    """The lookup that the method's settings name, read before anything heavy loads."""
    source = method.lookup
    if not source:
        return {}
    text = from_lead("lookup", lambda: read_reused(source, output.tracking_uri).to_json())
    return {source: Reused.from_json(text)}


def _print_outcomes(
    method: Method,
    outcomes: Sequence[Outcome],
    folders: Sequence[RunFolder],
    output: Output,
    dtype: str,
) -> None:
    """The summary and the extreme classes of the best run; for machines, all classes of all."""
    names = [folder.meta["run_name"] for folder in folders]
    if output.format != "table":
        rows = [
            {"run": name, **row}
            for name, outcome in zip(names, outcomes, strict=True)
            for row in class_rows(outcome)
        ]
        console.show(class_table(rows), output.format)
        return
    reports = {name: outcome.report for name, outcome in zip(names, outcomes, strict=True)}
    notes = [ON_EVALUATION] if is_chosen_on_evaluation(folders[0]) else []
    first = outcomes[0].report
    patches_bc = outcomes[0].counts.per_image[..., 0].numpy()
    notes += sampling_notes(outcomes[0].session.dataset.names, outcomes[0].groups, patches_bc)
    notes += [*_of_draws(method, first.n_draws), *measure_notes(first)]
    if FLIP_RATE in first.extra:
        notes.append(flip_note(dtype, first.extra[FLIP_RATE], first.n_images))
    console.show(summary_table(reports, notes=notes))
    best = max(range(len(outcomes)), key=lambda i: outcomes[i].report.macro_selectivity)
    which = names[best] if len(outcomes) > 1 else ""
    console.stdout().print()
    report = outcomes[best].report
    rows = [one_draw(row, report.n_draws) for row in class_rows(outcomes[best])]
    is_told = any("stability" in row for row in rows)  # of the latents that were chosen
    said = choice_notes(choice_rows(outcomes[best])) if is_told else ()
    console.show(extremes_table(rows, report.min_patches, which=which, notes=said))


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

"""A command from its settings to its last printed line."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from semseg_cli import tracking
from semseg_cli.commands.recording import (
    Planned,
    describe,
    finish,
    recorded,
    settings_of,
    shared_meta,
)
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.commands.same_settings import require_same_settings
from semseg_cli.demo.world import world_folder
from semseg_cli.experiment.estimate import make_plan
from semseg_cli.experiment.examples import add_examples
from semseg_cli.experiment.flip_rate import FLIP_RATE, flip_note
from semseg_cli.experiment.result_files import class_rows, write_outcome, write_stats
from semseg_cli.experiment.run import Outcome, check_method, choose_latents, is_manual, run
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.files import cache_folder
from semseg_cli.progress import Progress
from semseg_cli.ranks.ending import together
from semseg_cli.ranks.group import from_lead, is_lead, n_ranks
from semseg_cli.runs.contents import is_chosen_on_evaluation
from semseg_cli.runs.folder import LOOKUP_FILE, RunFolder
from semseg_cli.runs.lookup_csv import Reused, lookup_text
from semseg_cli.settings.base import narrow
from semseg_cli.settings.choosing import Choose, LatentChoice, Selection
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import LookupSetup, Setup, TrainSetup
from semseg_cli.settings.methods import Method
from semseg_cli.settings.output import Output, Recorded, Shown
from semseg_cli.show import console
from semseg_cli.show.run_pictures import add_all_pictures
from semseg_cli.show.run_tables import (
    ON_EVALUATION,
    class_table,
    extremes_table,
    lookup_table,
    measure_notes,
    summary_table,
)
from semseg_cli.show.tables import plain_number
from semseg_cli.tracking.store_address import resolve_uri, store_option, ui_command

DEMO_NOTE = """This is the embedded demo world (drawn scenes, a tiny ViT): it shows the tool,
not DINOv2. Bring your own: --vit-ckpt, --sae-ckpt, --seg-ckpt and --imgs-root."""


@together()
def intervene(setup: Setup, method: Method, output: Shown) -> None:
    """Runs one method at its scales: folders, tracking, tables."""
    require_same_settings(setup, method, output)
    store = open_store(output)
    reused = _reused(method, output)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = open_parts(setup, output, progress)
        if output.dry_run:
            _print_plan(session, [method])
            return
        check_method(session, method, reused)
        datasets = _datasets(session, method)
        if not is_lead():
            run(session, [method], reused, progress)
            return
        datasets += [one.dataset for one in reused.values() if one.dataset]
        shared = {**shared_meta(session, output, datasets), "protocol": setup.protocol}
        planned = [_planned(setup, method, scale, output, reused) for scale in method.scale]
        with recorded(planned, shared, output, store) as folders:
            outcomes = run(session, [method], reused, progress)
            for folder, outcome in zip(folders, outcomes, strict=True):
                write_outcome(folder, outcome, session.dataset)
                write_stats(folder, outcome.session.encoder)
                if method.has_other_latents:
                    digest = outcome.session.encoder.sae.digest
                    folder.update(digests={**folder.meta["digests"], "sae": digest})
            _draw(outcomes, folders, output)
    _print_outcomes(outcomes, folders, output, setup.dtype)
    if store is not None:
        finish(folders)
    print_where(folders, store, output, _compare_commands(store, folders))


@together()
def look_up(base: LookupSetup, choice: Choose, output: Output) -> None:
    """Chooses latents: a folder with lookup.csv per scale, tracking, a table."""
    require_same_settings(base, choice, output)
    store = open_store(output)
    setup = narrow(base, Setup)
    # F1 does not depend on the scale: one table serves all.
    scales = choice.scale if choice.select == "causal" else choice.scale[:1]
    choice = narrow(choice, Choose, scale=scales)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = open_parts(setup, output, progress, needs_head=choice.select == "causal")
        if output.dry_run:
            _print_plan(session, [choice])
            return
        datasets = [describe(session.lookup_dataset, "lookup")]
        if not is_lead():
            choose_latents(session, choice, progress)
            return
        shared = shared_meta(session, output, datasets)
        planned = [_planned_lookup(base, choice, scale, output) for scale in scales]
        with recorded(planned, shared, output, store) as folders:
            chosen = choose_latents(session, choice, progress)
            for folder, scale in zip(folders, scales, strict=True):
                folder.write(LOOKUP_FILE, lookup_text(chosen[scale]).encode())
                write_stats(folder, session.encoder)
            if not output.no_plots:
                add_all_pictures(folders)
    for folder, scale in zip(folders, scales, strict=True):
        rows = [row.to_row() for row in chosen[scale]]
        title = f"Latents by class: {folder.meta['run_name']}"
        console.show(lookup_table(rows, title, candidates=choice.top_k > 1), output.format)
    if store is not None:
        finish(folders)
    use = [f"Use:     semseg-cli auto-feat --lookup {folder.path}" for folder in folders]
    print_where(folders, store, output, use)


def _draw(outcomes: Sequence[Outcome], folders: Sequence[RunFolder], output: Shown) -> None:
    if output.no_plots:
        return
    if output.examples:
        for folder, outcome in zip(folders, outcomes, strict=True):
            add_examples(folder, outcome.session, outcome, output.examples)
    add_all_pictures(folders)


def open_store(output: Recorded) -> str | None:
    """The tracking store, known to be reachable; None where this process tracks nothing."""
    if output.no_track or output.dry_run or not is_lead():
        return None
    uri = resolve_uri(output.tracking_uri)
    tracking.probe(uri)
    return uri


def open_parts(
    setup: Setup, output: Recorded, progress: Progress, *, needs_head: bool = True
) -> Session:
    """The session of a command; in the demo world the user is told so."""
    tell_of_demo(setup, output)
    return open_session(setup, progress, needs_head=needs_head)


def is_demo(setup: Setup | TrainSetup) -> bool:
    """Whether the images are those of the demo world."""
    return setup.imgs.root == world_folder(cache_folder(setup.cache_dir))


def tell_of_demo(setup: Setup | TrainSetup, output: Recorded) -> None:
    """Says so where the images are those of the demo world."""
    if is_demo(setup):
        console.say(DEMO_NOTE, quiet=output.quiet)


def _datasets(session: Session, method: Method) -> list[dict[str, Any]]:
    """The images that a run depends on, as run.json has them."""
    computes = method.needs_statistics and session.is_missing_stats
    used = [describe(session.dataset, "evaluation")]
    if method.looks_up or computes or method.n_more_passes:
        used.append(describe(session.lookup_dataset, "lookup"))
    return used


def _planned(
    setup: Setup, method: Method, scale: float, output: Output, reused: Mapping[str, Reused]
) -> Planned:
    by_hand = is_manual(method, reused)
    run_name = output.run_name or method.run_name(is_manual=by_hand)
    settings = method.at(scale)
    if method.fixed_scale is not None:
        scale = method.fixed_scale
    elif not output.run_name or len(method.scale) > 1:
        run_name += f" {method.scale_name(plain_number(scale))}"
    meta = {
        "kind": "intervention",
        "command": method.command,
        "method": method.report_name(is_manual=by_hand),
        "scale": scale,
        "run_name": run_name,
    }
    return Planned(meta, settings_of(setup, settings, without=_unused(method)))


def _unused(method: Method) -> list[str]:
    """The options on choosing latents, where nothing is chosen."""
    if not method.needs_latents:
        return [entry.key for entry in entries(LatentChoice)]
    return [entry.key for entry in entries(Selection)] if method.lookup is not None else []


def _planned_lookup(base: LookupSetup, choice: Choose, scale: float, output: Output) -> Planned:
    default = f"lookup {choice.select}"
    default += f" x{plain_number(scale)}" if choice.select == "causal" else ""
    meta = {
        "kind": "lookup",
        "command": choice.command,
        "method": f"lookup-{choice.select}",
        "scale": scale,
        "run_name": output.run_name or default,
    }
    return Planned(meta, settings_of(base, narrow(choice, Choose, scale=(scale,))))


def _reused(method: Method, output: Output) -> dict[str, Reused]:
    """The lookup that the method's settings name, read before anything heavy loads."""
    source = method.lookup
    if not source:
        return {}
    text = from_lead("lookup", lambda: read_reused(source, output.tracking_uri).to_json())
    return {source: Reused.from_json(text)}


def _print_plan(session: Session, methods: Sequence[Method | Choose]) -> None:
    out, device = console.stdout(), session.encoder.device
    where = f"{n_ranks()} x {device.type}" if n_ranks() > 1 else device
    for line in make_plan(session, methods).lines():
        out.print(line.format(device=where), markup=False)


def _print_outcomes(
    outcomes: Sequence[Outcome], folders: Sequence[RunFolder], output: Output, dtype: str
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
    notes += measure_notes(first)
    if FLIP_RATE in first.extra:
        notes.append(flip_note(dtype, first.extra[FLIP_RATE], first.n_images))
    console.show(summary_table(reports, notes=notes))
    best = max(range(len(outcomes)), key=lambda i: outcomes[i].report.selectivity)
    which = names[best] if len(outcomes) > 1 else ""
    console.stdout().print()
    report = outcomes[best].report
    rows = [one_draw(row, report.n_draws) for row in class_rows(outcomes[best])]
    console.show(extremes_table(rows, report.min_patches, which=which))


def one_draw(row: Mapping[str, Any], n_draws: int) -> dict[str, Any]:
    """A class's row with its patches counted once, however many draws there were."""
    if n_draws == 1:
        return dict(row)
    kept = {key: value for key, value in row.items() if key != "n_changed_patches"}
    return {**kept, "n_orig_patches": row["n_orig_patches"] // n_draws}


def _compare_commands(store: str | None, folders: Sequence[RunFolder]) -> list[str]:
    """The command that compares these runs, from this working directory."""
    if store is None:
        paths = [str(folder.path) for folder in folders]
        return [
            f"Compare: {shlex.join(['semseg-cli', 'compare', *paths])}",
            f"Track:   {shlex.join(['semseg-cli', 'upload', *paths])}",
        ]
    experiment = folders[0].meta["experiment"]
    words = ["semseg-cli", "compare"]
    words += [] if experiment == Output().experiment else ["--experiment", experiment]
    return [f"Compare: {shlex.join([*words, *store_option(store)])}"]


def print_where(
    folders: Sequence[RunFolder], store: str | None, output: Recorded, commands: Sequence[str]
) -> None:
    """Where the results are, and the commands to go on with."""
    lines = ["", *(f"Results: {folder.path}" for folder in folders), *commands]
    if store is not None:
        lines.append(f"MLflow:  {ui_command(store)}")
        links = [tracking.run_link(folder) for folder in folders]
        lines += [f"Run:     {link}" for link in links if link]
    for line in lines:
        console.say(line, quiet=output.quiet)

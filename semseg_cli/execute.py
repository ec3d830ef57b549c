"""A command from its settings to its last printed line."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semseg_cli import console, tracking
from semseg_cli.config import AutoFeat, Choose, MeanDiff, Method, Output, Setup, narrow
from semseg_cli.data import Dataset
from semseg_cli.demo.world import world_folder
from semseg_cli.experiment import Outcome, choose_latents, method_name, run
from semseg_cli.interventions import needs_latents, needs_statistics
from semseg_cli.lookup_table import Reused, lookup_text
from semseg_cli.plan import make_plan
from semseg_cli.presets import cache_folder
from semseg_cli.progress import Progress
from semseg_cli.recording import (
    class_rows,
    describe,
    open_folders,
    recorded,
    write_outcome,
    write_settings,
)
from semseg_cli.reuse import read_reused
from semseg_cli.runs import RunFolder
from semseg_cli.session import Session, open_session
from semseg_cli.store import resolve_uri, ui_command
from semseg_cli.summary import extremes_table, lookup_table, summary_table
from semseg_cli.tables import plain_number

DEFAULT_STORE = "sqlite:///{}/mlflow.db"
DEMO_NOTE = (
    "This is the embedded demo world (drawn scenes, a tiny ViT): it shows the tool, not DINOv2. "
    "Bring your own with --vit-ckpt, --sae-ckpt, --seg-ckpt and --imgs-root."
)


def intervene(setup: Setup, method: Method, output: Output) -> None:
    """Runs one method at its scales: folders, tracking, tables."""
    store = _store(output)
    reused = _reused(method, output)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = _open(setup, output, progress)
        if output.dry_run:
            _print_plan(session, [method])
            return
        name = method_name(method, reused)
        runs = [_run_meta(method, scale, output, name) for scale in method.scale]
        datasets = [describe(dataset, session) for dataset in _datasets(session, method)]
        datasets += [one.dataset for one in reused.values() if one.dataset]
        folders = open_folders(session, output, runs, datasets)
        for folder, scale in zip(folders, method.scale, strict=True):
            write_settings(folder, setup, narrow(method, type(method), scale=(scale,)))
        with recorded(folders, store):
            outcomes = run(session, [method], reused, progress)
            for folder, outcome in zip(folders, outcomes, strict=True):
                write_outcome(folder, outcome, session.dataset)
    _print_outcomes(outcomes, folders, session)
    _print_where(folders, store, output, _compare_commands(store, folders[0]))


def look_up(setup: Setup, choice: Choose, output: Output) -> None:
    """Chooses latents: a folder with lookup.csv per scale, tracking, a table."""
    store = _store(output)
    # F1 does not depend on the scale: one table serves all.
    scales = choice.scale if choice.select == "causal" else choice.scale[:1]
    choice = narrow(choice, Choose, scale=scales)
    with console.progress_bars(quiet=output.quiet) as progress:
        session = _open(setup, output, progress)
        if output.dry_run:
            _print_plan(session, [choice])
            return
        runs = [_lookup_meta(choice, scale, output) for scale in scales]
        datasets = [describe(session.lookup_dataset, session)]
        folders = open_folders(session, output, runs, datasets)
        for folder, scale in zip(folders, scales, strict=True):
            write_settings(folder, setup, narrow(choice, Choose, scale=(scale,)))
        with recorded(folders, store):
            chosen = choose_latents(session, choice, progress)
            for folder, scale in zip(folders, scales, strict=True):
                folder.write("lookup.csv", lookup_text(chosen[scale]).encode())
    for scale in scales:
        rows = [row.to_row() for row in chosen[scale]]
        console.show(lookup_table(rows, candidates=choice.top_k > 1))
    use = [f"Use:     semseg-cli auto-feat --lookup {folder.path}" for folder in folders]
    _print_where(folders, store, output, use)


def _store(output: Output) -> str | None:
    """The tracking store, known to be reachable; None if nothing is tracked."""
    if output.no_track or output.dry_run:
        return None
    uri = resolve_uri(output.tracking_uri)
    tracking.probe(uri)
    return uri


def _open(setup: Setup, output: Output, progress: Progress) -> Session:
    is_demo = setup.imgs.root == world_folder(cache_folder(setup.cache_dir))
    if is_demo:
        console.say(DEMO_NOTE, quiet=output.quiet)
    return open_session(setup, progress)


def _datasets(session: Session, method: Method) -> list[Dataset]:
    """The images that a run depends on."""
    looks_up = needs_latents(method) and method.lookup is None
    computes = needs_statistics(method) and session.is_missing_stats
    if looks_up or computes or isinstance(method, MeanDiff):
        return [session.dataset, session.lookup_dataset]
    return [session.dataset]


def _run_meta(method: Method, scale: float, output: Output, name: str) -> dict[str, Any]:
    run_name = output.run_name or f"{method.command}{_variant(method)}"
    if _is_projection(method):
        scale = 0.0
    elif not output.run_name or len(method.scale) > 1:
        run_name += f" x{plain_number(scale)}"
    return {
        "kind": "intervention",
        "command": method.command,
        "method": name,
        "scale": scale,
        "run_name": run_name,
    }


def _variant(method: Method) -> str:
    """What the run's name says beside the command."""
    if _is_projection(method):
        return " project"
    return " shuffled" if isinstance(method, AutoFeat) and method.control == "shuffled" else ""


def _is_projection(method: Method) -> bool:
    return isinstance(method, MeanDiff) and method.match == "project"


def _lookup_meta(choice: Choose, scale: float, output: Output) -> dict[str, Any]:
    default = f"lookup {choice.select}"
    default += f" x{plain_number(scale)}" if choice.select == "causal" else ""
    return {
        "kind": "lookup",
        "command": "lookup",
        "method": f"lookup-{choice.select}",
        "scale": scale,
        "run_name": output.run_name or default,
    }


def _reused(method: Method, output: Output) -> dict[str, Reused]:
    """The lookup that the method's settings name, read before anything heavy loads."""
    source = method.lookup
    return {source: read_reused(source, output.tracking_uri)} if source else {}


def _print_plan(session: Session, methods: Sequence[Method | Choose]) -> None:
    out = console.stdout()
    for line in make_plan(session, methods).lines():
        out.print(line.format(device=session.pipeline.device), markup=False)


def _print_outcomes(
    outcomes: Sequence[Outcome], folders: Sequence[RunFolder], session: Session
) -> None:
    reports = {
        folder.meta["run_name"]: outcome.report
        for folder, outcome in zip(folders, outcomes, strict=True)
    }
    console.show(summary_table(reports))
    best = max(outcomes, key=lambda outcome: outcome.report.selectivity)
    console.stdout().print()
    console.show(extremes_table(class_rows(best), session.setup.min_patches))


def _compare_commands(store: str | None, folder: RunFolder) -> list[str]:
    """The command that compares this experiment, from this working directory."""
    if store is None:
        return []
    experiment = folder.meta["experiment"]
    words = ["semseg-cli", "compare"]
    words += [] if experiment == Output().experiment else ["--experiment", experiment]
    words += [] if store == DEFAULT_STORE.format(Path.cwd()) else ["--tracking-uri", store]
    return [f"Compare: {shlex.join(words)}"]


def _print_where(
    folders: Sequence[RunFolder], store: str | None, output: Output, commands: Sequence[str]
) -> None:
    lines = ["", *(f"Results: {folder.path}" for folder in folders), *commands]
    if store is not None:
        lines.append(f"MLflow:  {ui_command(store)}")
        links = [tracking.run_link(folder) for folder in folders]
        lines += [f"Run:     {link}" for link in links if link]
    for line in lines:
        console.say(line, quiet=output.quiet)

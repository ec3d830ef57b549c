"""The latents of each class, from the settings to the last printed line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semseg_cli.commands.next_steps import print_where
from semseg_cli.commands.noted import notes_of_parts
from semseg_cli.commands.opening import open_parts, open_store, print_plan
from semseg_cli.commands.recording import (
    Planned,
    dataset_meta,
    recorded,
    require_tracked,
    settings_of,
    shared_meta,
)
from semseg_cli.commands.same_settings import require_same_settings
from semseg_cli.errors import UsageError
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.latent_groups import latent_groups
from semseg_cli.experiment.result_files import write_stats
from semseg_cli.experiment.session import Session
from semseg_cli.experiment.top_images import add_top_images
from semseg_cli.progress import Progress
from semseg_cli.ranks.ending import together
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.contents import choice_over, notes_of
from semseg_cli.runs.folder import GROUPS_FILE, LOOKUP_FILE, RunFolder
from semseg_cli.runs.lookup_csv import LookupRow, lookup_text
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.base import narrow
from semseg_cli.settings.command_line import command_line
from semseg_cli.settings.inputs import LookupSetup, Setup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.output import Output
from semseg_cli.show import console
from semseg_cli.show.dictionary_tables import groups_table
from semseg_cli.show.run_pictures import add_all_pictures
from semseg_cli.show.run_tables import lookup_table
from semseg_cli.show.tables import Table, plain_number


@dataclass(frozen=True)
class Latents:
    """A choice of latents that is whole on the disk, as tables; groups where they were grown."""

    folder: RunFolder
    table: Table
    groups: Table | None = None


@together()
def look_up(base: LookupSetup, choice: Choose, output: Output) -> None:
    """Chooses latents: a folder with lookup.csv per scale, tracking, a table."""
    require_same_settings(base, choice, output)
    choice = tried(choice)
    store = open_store(output)
    with console.progress_bars(quiet=output.quiet) as progress:
        setup = narrow(base, Setup)
        session = open_parts(setup, output, progress, needs_head=choice.tries_edits)
        if output.dry_run:
            print_plan(session, [choice])
            return
        found = look_up_recorded(session, base, choice, output, store, progress)
    if not found:  # another rank has them
        return
    tables = [table for one in found for table in (one.table, one.groups) if table is not None]
    console.show_all(tables, output.format)
    folders = [one.folder for one in found]
    require_tracked(folders)
    use = [f"Use:     {_use(folder.path)}" for folder in folders]
    if found[0].groups is not None:
        use += [f"Groups:  {_use(folder.path / GROUPS_FILE)}" for folder in folders]
    print_where(folders, store, output, use)


def _use(path: Path) -> str:
    return command_line("auto-feat", "--lookup", path)


def tried(choice: Choose) -> Choose:
    """The choice at the scales that it depends on: by F1 it is the same at all of them.

    Raises:
        UsageError: groups are asked for where no edits are tried.
    """
    if choice.max_group is not None and not choice.tries_edits:
        raise UsageError(
            "--max-group is given: groups grow by what edits do, give --select cause or causal"
        )
    scales = choice.scale if choice.tries_edits else choice.scale[:1]
    return narrow(choice, Choose, scale=scales)


def look_up_recorded(
    session: Session,
    base: LookupSetup,
    choice: Choose,
    output: Output,
    store: str | None,
    progress: Progress,
) -> list[Latents]:
    """Latents by class, each scale's in a folder of its own; of several ranks the lead has them."""
    datasets = [dataset_meta(session.lookup_dataset, "lookup")]
    if not is_lead():
        _groups(session, choice, choose_latents(session, choice, progress), progress)
        return []
    scales = choice.scale
    shared = shared_meta(session, output, datasets)
    planned = [_planned(session.settled(base), choice, scale, output) for scale in scales]
    with recorded(planned, shared, output, store) as folders:
        chosen = choose_latents(session, choice, progress)
        for folder, scale in zip(folders, scales, strict=True):
            folder.update(notes=notes_of_parts(session))
            folder.write(LOOKUP_FILE, lookup_text(chosen[scale]).encode())
            write_stats(folder, session.pipeline)
        groups = _groups(session, choice, chosen, progress)
        for folder, scale in zip(folders, scales, strict=True):
            if scale in groups:
                folder.write(GROUPS_FILE, csv_text(groups[scale]).encode())
        if not output.no_plots:
            for folder, scale in zip(folders, scales, strict=True):
                add_top_images([folder], session, _best(chosen[scale]))
            add_all_pictures(folders)
    return [
        Latents(
            folder,
            _table(session, choice, chosen[scale], folder),
            _groups_table(session, groups[scale]) if scale in groups else None,
        )
        for folder, scale in zip(folders, scales, strict=True)
    ]


def _table(
    session: Session, choice: Choose, chosen: Sequence[LookupRow], folder: RunFolder
) -> Table:
    names = session.lookup_dataset.class_names
    asked = [names[i - 1] for i in session.classes_of(session.lookup_dataset)]
    rows = [row.to_row() for row in chosen]
    title = f"Latents by class: {folder.meta['run_name']}"
    table = lookup_table(rows, title, candidates=choice.top_k > 1, asked=asked)
    return replace(table, notes=(*notes_of(folder), *choice_over(folder), *table.notes))


def _groups_table(session: Session, rows: Sequence[dict[str, Any]]) -> Table:
    split = session.dataset.split
    return groups_table(rows, split, is_choosing=split == session.lookup_dataset.split)


def _best(rows: Sequence[LookupRow]) -> dict[int, int]:
    """Class id -> its best chosen latent."""
    return {row.class_id: row.latent for row in reversed(rows) if row.chosen}


def _groups(
    session: Session,
    choice: Choose,
    chosen: Mapping[float, Sequence[LookupRow]],
    progress: Progress,
) -> dict[float, list[dict[str, Any]]]:
    if choice.max_group is None:
        return {}
    n_most = choice.select_images
    return latent_groups(session, chosen, choice.max_group, n_most, progress)


def _planned(base: LookupSetup, choice: Choose, scale: float, output: Output) -> Planned:
    default = f"lookup {choice.select}"
    default += f" x{plain_number(scale)}" if choice.tries_edits else ""
    meta = {
        "kind": "lookup",
        "command": choice.command,
        "method": f"lookup-{choice.select}",
        "scale": scale,
        "run_name": output.run_name or default,
    }
    return Planned(meta, settings_of(base, narrow(choice, Choose, scale=(scale,))))

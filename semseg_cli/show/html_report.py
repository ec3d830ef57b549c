"""report.html: one self-contained page per run. Nothing is fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.runs.contents import cautions_of, choice_over, params_of
from semseg_cli.runs.folder import LOOKUP_FILE, SETTINGS_FILE, RunFolder
from semseg_cli.runs.rows import Row, read_rows
from semseg_cli.settings.command_line import command_line
from semseg_cli.show import html_parts as parts
from semseg_cli.show.latent_cards import latent_cards
from semseg_cli.show.run_notes import of_class_rows, patches_add_up
from semseg_cli.show.run_tables import (
    by_selectivity,
    class_table,
    lookup_table,
    summary_table,
)
from semseg_cli.show.tables import cell
from semseg_cli.show.tiles import tiles_of

PLOTS = {
    "target_other": "Share of each class's own patches, and of all other patches, that changed.",
    "best_worst": "Target change minus other change of the classes.",
    "changes": "What the changed patches of a class became.",
    "dose_response": "Means over classes at every scale of the sweep, with 95% intervals.",
}
FEW = "Last and grey, however the table is sorted: classes with fewer than {} predicted patches."
TRIED = "Target, other and selectivity: of the latent's own edit, on the selection images."


def report_html(folder: RunFolder, rows: Sequence[Row], numbers: Mapping[str, float]) -> str:
    """The page of a run.

    Args:
        folder: the run; its settings, latents, plots and examples are read from it.
        rows: one per class, its patches those of one draw, with `*_lo` and `*_hi` where known; none
            for a lookup.
        numbers: the run's metrics, likewise; none for a lookup.
    """
    name = folder.meta["run_name"]
    plots = plots_of(folder)
    body = [
        parts.header(name, _subtitle(folder.meta)),
        *parts.warnings(cautions_of(folder)),
        *_headline(folder, numbers),
        *parts.pictures([(path, PLOTS.get(path.stem, path.name)) for path in plots], "Pictures"),
        *_classes(folder, rows),
        *latent_cards(folder, rows),
        *_latents(folder),
        *parts.examples(folder.path / "examples", "Examples"),
        *_origin(folder),
    ]
    return parts.page(name, body)


def _subtitle(meta: Mapping[str, Any]) -> str:
    said = [meta["method"]]
    said += [f"{meta['protocol']} protocol"] if meta.get("protocol") else []
    said += [f"scale {cell(meta['scale'], 'setting')}"] if meta.get("scale") is not None else []
    return ", ".join([*said, f"experiment {meta['experiment']}", meta["created"][:10]])


# --- parts of the page ----------------------------------------------------------------------------


def _headline(folder: RunFolder, numbers: Mapping[str, float]) -> list[str]:
    if not numbers:
        return []
    report = folder.report()
    notes = summary_table({folder.meta["run_name"]: report}).notes
    return [parts.tiles(tiles_of(numbers, report), notes)]


def plots_of(folder: RunFolder) -> list[Path]:
    """The drawings of a run in their order: lines, or pixels where a run has only those."""
    found = {path.stem: path for kind in ("png", "svg") for path in _in(folder, "plots", kind)}
    return sorted(found.values(), key=lambda path: (_place(path.stem), path.stem))


def _in(folder: RunFolder, part: str, kind: str) -> list[Path]:
    return sorted((folder.path / part).glob(f"*.{kind}"))


def _place(stem: str) -> int:
    return list(PLOTS).index(stem) if stem in PLOTS else len(PLOTS)


def _classes(folder: RunFolder, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    report = folder.report()
    least = max(1, report.min_patches)
    ordered = by_selectivity(rows, least)
    few = {place for place, row in enumerate(ordered) if row["n_orig_patches"] < least}
    said = [of_class_rows(report), *patches_add_up(report), *([FEW.format(least)] if few else [])]
    return [parts.table(class_table(ordered, "Classes by selectivity"), said, few)]


def _latents(folder: RunFolder) -> list[str]:
    latents = read_rows(folder.path / LOOKUP_FILE)
    if not latents:
        return []
    is_tried = any(row.get("selectivity") is not None for row in latents)
    said = [*choice_over(folder), *([TRIED] if is_tried else [])]
    return [parts.table(lookup_table(latents), said)]


def _origin(folder: RunFolder) -> list[str]:
    """How the run was made, and how to make it again."""
    meta = folder.meta
    facts = {
        "run folder": folder.path.name,
        "created": meta["created"],
        "git commit": meta.get("git_commit"),
        "sweep": meta.get("sweep_id"),
        **{f"{one['role']} images": _dataset(one) for one in meta["datasets"]},
        **{f"digest of the {part}": value for part, value in (meta.get("digests") or {}).items()},
        **{f"tag {name}": value for name, value in meta["tags"].items()},
    }
    return [
        parts.pairs("Settings", params_of(folder), again(folder)),
        parts.pairs("Origin", {name: value for name, value in facts.items() if value is not None}),
    ]


def again(folder: RunFolder) -> str:
    """The command that makes a run again, from any working directory."""
    settings = folder.path.absolute() / SETTINGS_FILE
    return command_line(folder.meta["command"], "--config", settings)


def _dataset(one: Mapping[str, Any]) -> str:
    size = f"{one['n_images']} images, " if "n_images" in one else ""  # not of a reused lookup
    return f"{one['root']}, split {one['split']}, {size}digest {one['digest']}"

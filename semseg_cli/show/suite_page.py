"""suite.html and card.md: the whole argument on a page, and on a card to paste."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semseg_cli import __version__
from semseg_cli.runs.contents import cautions_of, null_sae_of, params_of
from semseg_cli.runs.folder import CLASSES_FILE, RunFolder
from semseg_cli.runs.rows import read_rows
from semseg_cli.show import html_parts as parts
from semseg_cli.show.dictionary_ranking import ranking_table
from semseg_cli.show.html_report import again
from semseg_cli.show.latent_cards import latent_cards
from semseg_cli.show.run_pictures import dose_row
from semseg_cli.show.suite_tables import (
    QUESTION,
    Finished,
    claims,
    class_table,
    group_tables,
    headline,
    missing_notes,
    suite_table,
    tile_numbers,
    verdict_notes,
)
from semseg_cli.show.tables import plain_number, render

CAPTIONS = {
    "nulls": "Each class's score, and the median to the 95th percentile of its nulls.",
    "dose_response": "Means over classes at every scale, with 95% intervals.",
}


def draw_suite(suite: Finished, folder: RunFolder) -> None:
    """plots/*.png and *.svg of a suite."""
    from semseg_cli.show.calibration_chart import forest_figure
    from semseg_cli.show.charts import dose_figure

    plots = folder.path / "plots"
    results = read_rows(suite.own_folder.path / CLASSES_FILE)
    forest_figure(suite.classes, plots / "nulls.png", results)
    curve = [dose_row(run) for run in _curve(suite)]
    if len({row["scale"] for row in curve}) > 1:
        dose_figure(curve, plots / "dose_response.png", suite.own.rsplit(" ", 1)[0])


def _curve(suite: Finished) -> list[RunFolder]:
    """The runs of the latents at all scales, the ablation among them."""
    own = suite.own_folder.meta
    return [
        folder
        for folder in suite.runs.values()
        if null_sae_of(folder) == "none"
        and (folder.meta["method"] == own["method"] or folder.meta["command"] == "ablate")
    ]


def suite_page(suite: Finished, folder: RunFolder) -> str:
    """The page of a suite, with the pictures that its folder and its own run's have."""
    plots = [(folder.path / "plots" / f"{name}.svg", said) for name, said in CAPTIONS.items()]
    body = [
        parts.header(QUESTION, ", ".join(f"{k}: {v}" for k, v in subjects(suite).items())),
        *parts.warnings(cautions_of(suite.own_folder)),
        f"<section><h2>{parts.text(headline(suite))}</h2></section>",
        parts.tiles(tile_numbers(suite), verdict_notes(suite)),
        _runs(suite),
        *parts.pictures([pair for pair in plots if pair[0].exists()], "Classes and scales"),
        _classes(suite),
        *latent_cards(suite.own_folder, read_rows(suite.own_folder.path / CLASSES_FILE)),
        parts.table(ranking_table(suite.ranking)),
        *map(parts.table, group_tables(suite)),
        *parts.examples(suite.own_folder.path / "examples", "Before and after"),
        f"<section><h2>What is missing</h2>{parts.notes(missing_notes(suite))}</section>",
        parts.pairs("Settings", params_of(folder), again(folder)),
    ]
    return parts.page(f"Suite: {headline(suite)}", body)


def _runs(suite: Finished) -> str:
    """The runs; what stands above them on the page is not said again."""
    shown = suite_table(suite)
    above = {headline(suite), *verdict_notes(suite), *cautions_of(suite.own_folder)}
    return parts.table(replace(shown, notes=tuple(n for n in shown.notes if n not in above)))


def _classes(suite: Finished) -> str:
    """The classes; those that have too few patches to be judged stay last."""
    shown = class_table(suite)
    few = {place for place, row in enumerate(shown.rows) if row["value"] is None}
    return parts.table(shown, few=few)


def subjects(suite: Finished) -> dict[str, str]:
    """What was tried: models by name, layer, images, day; no folders of this machine."""
    meta, params = suite.own_folder.meta, params_of(suite.own_folder)
    images = {one["role"]: one for one in meta["datasets"]}["evaluation"]
    return {
        "SAE": _part(params, meta, "sae"),
        "ViT": f"{_part(params, meta, 'vit')}, {_place(params)}",
        "head": _part(params, {"digests": {"head": meta["digests"].get("head")}}, "seg"),
        "dataset": f"{images['name']}, {images['split']}, {images['n_images']} images",
        "day": meta["created"][:10],
    }


def _place(params: Mapping[str, Any]) -> str:
    """Where the SAE reads."""
    return f"{params.get('vit_site', 'resid-post')} of layer {params.get('vit_layer')}"


def _part(params: Mapping[str, str], meta: Mapping[str, Mapping[str, str]], name: str) -> str:
    digest = meta["digests"].get("head" if name == "seg" else name) or ""
    return f"{Path(params.get(f'{name}_ckpt', '')).name} ({digest[:12]})"


def card(suite: Finished, key: str) -> str:
    """A results card in Markdown, for a model's repository."""
    yes, no = claims(suite)
    scale = plain_number(suite.own_folder.report().intervention_scale)
    table = suite_table(suite)
    shown = render(replace(table, title="", notes=()), "markdown").strip()
    facts = "\n".join(f"- {name}: {what}" for name, what in subjects(suite).items())
    notes = "\n".join(f"- {note}" for note in verdict_notes(suite))
    lacks = "\n".join(f"- {note}" for note in missing_notes(suite))
    return f"""# Causal check of SAE latents

**{headline(suite)}**

{QUESTION}
Each class's latent was set to {scale} times its maximum in every patch, the rest of the network was
run again, and patches that changed class were counted: *target*, patches predicted as
the class; *other*, all the rest. A class is claimed if its score (target minus other change) stands
above random latents, above random latents with an edit of the same length and above the latents of
every other class, if most of its patches change, if no other class changes half as much, and if
taking the latent away (0) changes some of its patches, too.

{facts}

{shown}

macro: mean over classes; [ ]: 95% interval over images; edit norm: length of the edit.

{notes}

- Claimed: {", ".join(yes) or "none"}.
- Not claimed: {", ".join(no) or "none"}.

What this does not show:

{lacks}

Made by semseg-cli {__version__} (`semseg-cli suite`, {key}).
"""

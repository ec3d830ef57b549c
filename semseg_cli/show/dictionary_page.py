"""suite.html of several autoencoders: the table, the pictures, a section for each of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from semseg_cli.runs.contents import cautions_of, params_of
from semseg_cli.runs.dictionaries import GIVEN, Dictionary, Ranking
from semseg_cli.runs.folder import CLASSES_FILE, SPLICE_FILE, RunFolder
from semseg_cli.runs.rows import read_rows
from semseg_cli.show import html_parts as parts
from semseg_cli.show.dictionary_ranking import label, ranking_table, verdict
from semseg_cli.show.dictionary_tables import spliced_class_table
from semseg_cli.show.html_report import again
from semseg_cli.show.latent_cards import ROOM, TITLE, latent_cards
from semseg_cli.show.suite_tables import Finished, class_table, group_tables, headline
from semseg_cli.show.tables import Table

QUESTION = "Which dictionary, and which layer, has latents that are about one class only?"
CAPTIONS = {
    "score_by_layer": "The score of every dictionary, with its 95% interval, by layer.",
    "score_by_l0": "The same by the mean number of active latents per patch.",
    "score_by_explained_variance": "The same by explained variance.",
}
LIMITS = (
    "Ranks hold for this transformer, head and dataset, for this rule of choosing latents, and for "
    "one seed of the nulls.",
    "A shared rank does not say that dictionaries are equal: more images may tell them apart.",
)


@dataclass(frozen=True)
class SideBySide:
    """A suite of several autoencoders: their ranking, the run that chose the latents by the folder
    of each, and why one is left out, by name."""

    ranking: Ranking
    lookups: Mapping[Path, RunFolder]
    left_out: Mapping[str, str]

    @property
    def given(self) -> list[Dictionary]:
        """Those that are no null SAE."""
        return [one for one in self.ranking.dictionaries if one.null_sae == GIVEN]

    @property
    def missing(self) -> list[str]:
        """What is not in the table."""
        return [f"Not in the table: {name}. {why}" for name, why in self.left_out.items()]

    def label(self, one: Dictionary) -> str:
        """A dictionary's name among all of them."""
        return label(one, self.ranking.dictionaries)

    def alone(self, one: Dictionary) -> Finished:
        """A dictionary's run as a suite of its own."""
        name = one.folder.meta["run_name"]
        return Finished({name: one.folder}, name, {}, {}, self.lookups[one.folder.path])

    def group_tables(self) -> list[Table]:
        """Each given dictionary's groups of latents, where they were looked for."""
        pairs = [(one, shown) for one in self.given for shown in group_tables(self.alone(one))]
        return [replace(made, title=f"{made.title}: {self.label(one)}") for one, made in pairs]


def draw_ranking(ranking: Ranking, folder: RunFolder) -> None:
    """plots/*.png and *.svg of autoencoders side by side."""
    from semseg_cli.show.dictionary_chart import score_figures

    score_figures(ranking.rows, folder.path / "plots")


def ranking_page(found: SideBySide, folder: RunFolder) -> str:
    """The page, with the pictures that the folder has."""
    said = verdict(found.ranking)
    plots = [(folder.path / "plots" / f"{name}.svg", text) for name, text in CAPTIONS.items()]
    body = [
        parts.header(QUESTION, ", ".join(f"{k}: {v}" for k, v in _subjects(found).items())),
        *parts.warnings(_warnings(found)),
        f"<section><h2>{parts.text(said)}</h2></section>",
        parts.table(ranking_table(found.ranking)),
        *parts.pictures([pair for pair in plots if pair[0].exists()], "Scores"),
        *(section for one in found.given for section in _sections(found, one)),
        f"<section><h2>What is missing</h2>{parts.notes([*found.missing, *LIMITS])}</section>",
        parts.pairs("Settings", params_of(folder), again(folder)),
    ]
    return parts.page(f"Suite: {said}", body)


def _subjects(found: SideBySide) -> dict[str, str]:
    """What was tried: models by name, images, day; no folders of this machine."""
    folder = found.ranking.dictionaries[0].folder
    meta, params = folder.meta, params_of(folder)
    images = {one["role"]: one for one in meta["datasets"]}["evaluation"]
    return {
        "SAEs": str(len(found.given)),
        "ViT": Path(params.get("vit_ckpt", "")).name,
        "dataset": f"{images['name']}, {images['split']}, {images['n_images']} images",
        "day": meta["created"][:10],
    }


def _warnings(found: SideBySide) -> list[str]:
    """What the logs of the runs warn of, each with the dictionaries that it is about."""
    about: dict[str, list[str]] = {}
    for one in found.given:
        for said in cautions_of(one.folder):
            about.setdefault(said, []).append(found.label(one))
    return [f"{', '.join(names)}: {said}" for said, names in about.items()]


def _sections(found: SideBySide, one: Dictionary) -> Iterator[str]:
    """One dictionary: its classes among their nulls, under its reconstruction, in groups."""
    alone, name = found.alone(one), found.label(one)
    yield f"<section><h2>{parts.text(f'{name}: {headline(alone)}')}</h2></section>"
    yield parts.table(replace(made := class_table(alone), title=f"{made.title}: {name}"))
    rows, room = read_rows(one.folder.path / CLASSES_FILE), ROOM // len(found.given)
    yield from latent_cards(one.folder, rows, f"{TITLE}: {name}", room)
    if rows := read_rows(one.folder.path / SPLICE_FILE):
        title = f"Classes under its reconstruction: {name}"
        yield parts.table(replace(spliced_class_table(rows), title=title))
    for shown in group_tables(alone):
        yield parts.table(replace(shown, title=f"{shown.title}: {name}"))

"""Each class's latent on a page: what it responds to beside what it does."""

from collections.abc import Sequence
from itertools import accumulate

from semseg_cli.runs.choice import chosen_rows
from semseg_cli.runs.folder import LOOKUP_FILE, REPORT_FILE, TOP_IMAGES_FILE, RunFolder
from semseg_cli.runs.rows import Row, read_rows
from semseg_cli.show import html_parts as parts
from semseg_cli.show.run_tables import by_selectivity
from semseg_cli.show.tables import cell

FOLDER = "latents"
ROOM = 1_800_000  # bytes of pictures, a third more as text: pages stay below 5 MB
TITLE = "Latents: what they respond to, and what they do"
SAID = (
    "Above: of {n} images of the lookup split ({split}) those on which the latent is most active, "
    "the most active first. Below: the same in grey, bright where it is active.",
)
MEASURED = "target, other: of the class in the images evaluated, as in its row of the table."
EFFECTS = {"target_change": "target", "other_change": "other"}
CHOICE = {"f1": "F1", "selectivity": "selectivity"}


def picture_name(class_id: int) -> str:
    """Where the picture of a class's latent is in the run folder."""
    return f"{FOLDER}/{class_id}.jpg"


def latent_cards(
    folder: RunFolder, rows: Sequence[Row], title: str = TITLE, room: int = ROOM
) -> list[str]:
    """The section of a run's page, from its top images; nothing where it has none.

    `rows` are those of class_results.csv, of one draw; without them the numbers are those of the
    choice. Classes whose pictures have no `room`, in bytes, are counted.
    """
    top = {row["class_id"]: row for row in reversed(read_rows(folder.path / TOP_IMAGES_FILE))}
    if not top:
        return []
    least = folder.report().min_patches if (folder.path / REPORT_FILE).exists() else 0
    chosen = chosen_rows(read_rows(folder.path / LOOKUP_FILE))
    ordered, names = (by_selectivity(rows, least), EFFECTS) if rows else (chosen, CHOICE)
    found = [
        (
            row["class_name"],
            f"latent {top[row['class_id']]['latent']}: {_numbers(row, names)}",
            folder.path / picture_name(row["class_id"]),
        )
        for row in ordered
        if row.get("class_id") in top and (folder.path / picture_name(row["class_id"])).exists()
    ]
    n_without = len(ordered) - len(found)
    first = next(iter(top.values()))
    said = [line.format(n=first["n_images"], split=first["split"]) for line in SAID]
    said += [MEASURED] if rows else []
    sizes = accumulate(path.stat().st_size for _, _, path in found)
    n_fitting = sum(size <= room for size in sizes)
    left = len(found) - n_fitting
    said += [f"{n_without} classes have no picture: inactive on these images."] if n_without else []
    said += [f"{left} more classes: in {folder.path.name}/{FOLDER}/."] if left else []
    return parts.cards(title, found[:n_fitting], said)


def _numbers(row: Row, names: dict[str, str]) -> str:
    known = {key: name for key, name in names.items() if row.get(key) is not None}
    return ", ".join(f"{name} {cell(row[key])}" for key, name in known.items())

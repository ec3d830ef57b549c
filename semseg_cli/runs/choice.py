"""What is said of a choice of latents: how stable it is, and which latents speak for many."""

from collections.abc import Sequence

from semseg_cli.runs.rows import Row

STEADY = 0.95
BROAD = 0.5  # of the classes
SHOWN = 4


def chosen_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of chosen latents; in a table of a user's own, all."""
    found = [row for row in rows if row.get("chosen", 1) and row.get("latent") is not None]
    return [row for row in found if row["latent"] >= 0]


def of_several(rows: Sequence[Row]) -> dict[int, list[str]]:
    """Latent -> the classes it is chosen for, where they are several."""
    classes: dict[int, list[str]] = {}
    for row in chosen_rows(rows):
        classes.setdefault(row["latent"], []).append(str(row.get("class_name", "")))
    return {latent: names for latent, names in classes.items() if len(names) > 1}


def is_broad(row: Row) -> bool:
    """Whether a latent fires on more than half of all classes."""
    return (row.get("class_share") or 0.0) > BROAD


def choice_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences below a table of latents: how steady the choice is, and what is flagged."""
    chosen = chosen_rows(rows)
    notes = [_steadiness(chosen)] if any("stability" in row for row in chosen) else []
    for latent, names in of_several(rows).items():
        notes.append(f"Latent {latent} is chosen for several classes: {_some(names)}.")
    broad = dict.fromkeys(row["latent"] for row in chosen if is_broad(row))
    if broad:
        verb = "fires" if len(broad) == 1 else "fire"
        noun = "Latent" if len(broad) == 1 else "Latents"
        notes.append(
            f"{noun} {_some([str(latent) for latent in broad])} {verb} on more than half of all "
            "classes (on at least 1% of their patches)."
        )
    return tuple(notes)


def _steadiness(chosen: Sequence[Row]) -> str:
    known = [row for row in chosen if row.get("stability") is not None]
    if not known:
        return "stable: not told, since no class occurs in enough of the training images."
    steady = sum(row["stability"] >= STEADY for row in known)
    thin = len(chosen) - len(known)
    is_tried = any(row.get("selectivity") is not None for row in chosen)
    said = (
        "stable: how often the same latent is chosen from resampled training images"
        f"{' among those tried' if is_tried else ''}; at least {STEADY:g} in {steady} of "
        f"{len(known)} classes."
    )
    return said + (f" Too few images with the class to tell: {thin}." if thin else "")


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

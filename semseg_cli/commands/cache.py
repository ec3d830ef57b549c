"""`cache list` and `cache clear`: what the residual cache holds. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from semseg_cli.errors import SemsegError
from semseg_cli.files import cache_folder
from semseg_cli.models.cache_folders import (
    EntryFolder,
    chosen_entries,
    kept_entries,
    remove,
    residuals_folder,
)
from semseg_cli.runs.rows import Row
from semseg_cli.show import console
from semseg_cli.show.tables import Column, Table

COLUMNS = (
    Column("id", "id", "text"),
    Column("vit", "ViT", "text", elastic=True),
    Column("layer", "layer", "count"),
    Column("site", "site", "text"),
    Column("images_of", "images of", "text", elastic=True),
    Column("n_images", "images", "count"),
    Column("gib", "GiB"),
    Column("used", "last used", "text"),
)


def list_cache(cache_dir: Path | None, format: str) -> None:
    """Prints the entries of the residual cache, the last used first."""
    folder = residuals_folder(cache_folder(cache_dir))
    kept = kept_entries(folder)
    total = _gib(sum(one.n_bytes for one in kept))
    notes = (f"{_entries(len(kept))}, {total:.3f} GiB in {folder}.",)
    console.show(Table("Residuals", COLUMNS, tuple(map(_row, kept)), notes), format)


def _row(kept: EntryFolder) -> Row:
    about = kept.about
    return {
        "id": kept.id,
        "vit": ", ".join(_model(about)),
        "layer": about.get("layer"),
        "site": about.get("site"),
        "images_of": f"{about.get('dataset', '?')} {about.get('split', '')}",
        "n_images": kept.n_images,
        "gib": _gib(kept.n_bytes),
        "used": datetime.fromtimestamp(kept.used).isoformat(" ", "minutes"),
        **{key: about.get(key) for key in ("dtype", "image_size")},
        "n_bytes": kept.n_bytes,
        "path": str(kept.path),
    }


def _model(about: Mapping[str, Any]) -> Iterator[str]:
    """The ViT by name, and what is not as usual about it."""
    yield Path(about.get("model", "?")).name
    if about.get("dtype", "float32") != "float32":
        yield about["dtype"]


def clear_cache(cache_dir: Path | None, ids: Sequence[str]) -> None:
    """Removes entries of the residual cache by the beginning of their ids; all without any.

    Raises:
        UsageError: an id fits no entry, or several.
        SemsegError: something cannot be removed.
    """
    chosen = chosen_entries(residuals_folder(cache_folder(cache_dir)), ids)
    freed = sum(map(remove, chosen))
    console.say(f"Removed {_entries(len(chosen))} of residuals, {_gib(freed):.3f} GiB.")
    left = [kept.path for kept in chosen if kept.path.exists()]
    if left:
        raise SemsegError(f"{left[0]} cannot be removed: check whose it is.")


def _entries(n: int) -> str:
    return "1 entry" if n == 1 else f"{n} entries"


def _gib(n_bytes: int) -> float:
    return n_bytes / 2**30

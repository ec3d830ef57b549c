"""The preprocessing of a checkpoint: by its own file, else by its family."""

from typing import Any

from semseg_cli.data.preprocessing import Preprocessing, from_published
from semseg_cli.errors import SemsegError
from semseg_cli.models.vit import open_clip
from semseg_cli.models.vit.families import Family
from semseg_cli.models.vit.hub_files import hub_file
from semseg_cli.models.weight_files import read_object

# The file, and the entry of it that describes the images; the first that is there counts.
PROCESSOR_FILES = {"processor_config.json": "image_processor", "preprocessor_config.json": None}


def preprocessing_of(name: str, row: Family, config: Any) -> Preprocessing:
    """The checkpoint's own preprocessing, or its family's where it comes without.

    Raises:
        SemsegError: its file cannot be used.
    """
    own = row.preprocessing(config)
    if "clip" in row.model_types and open_clip.is_only(name):
        return open_clip.preprocessing(name, own)
    for filename, entry in PROCESSOR_FILES.items():
        path = hub_file(name, filename)
        if path is None:
            continue
        try:
            whole = read_object(path)
            published = whole.get(entry) if entry else whole
            if published:
                return followed(published, row, config, own)
        except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
            raise SemsegError(
                f"The preprocessing in {path} cannot be used ({error}): correct the file."
            ) from error
    return own


def followed(
    published: dict[str, Any], row: Family, config: Any, own: Preprocessing
) -> Preprocessing:
    """What a file says, but for the geometry where its publisher's own is known."""
    mean = published.get("image_mean")
    publisher = row.publishers.get(tuple(mean)) if isinstance(mean, list) else None
    if publisher is not None:
        return from_published(published, publisher(config), only_normalisation=True)
    return from_published(published, own, only_normalisation=row.only_normalisation)

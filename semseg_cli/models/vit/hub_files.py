"""Single files of a model's folder or repository."""

from pathlib import Path


def hub_file(name: str, filename: str) -> Path | None:
    """The file of a folder or repository; None if it has none, or none is cached offline."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if Path(name).is_dir():
        path = Path(name) / filename
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(name, filename))
    except EntryNotFoundError:
        return None

"""What settings name as inputs, checked as far as can be before torch loads, which is slow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semseg_cli.data.layouts import check_layout
from semseg_cli.demo.world import world_folder
from semseg_cli.errors import FileError, UsageError
from semseg_cli.files import cache_folder, expanded
from semseg_cli.models.head_download import is_address
from semseg_cli.models.named_files import (
    ON_THE_HUB,
    OUTSIDE,
    STATISTICS,
    require_head,
    require_sae,
    require_statistics,
    vit_folder,
)
from semseg_cli.runs.folder import STATS_FILE
from semseg_cli.runs.lookup_csv import is_lookup_path, lookup_from_path
from semseg_cli.settings.inputs import LookupSetup, Setup, StatsSetup, TrainSetup
from semseg_cli.settings.toml_files import INPUTS

PATTERN = frozenset("*?[")  # in the path of an SAE of a suite
MEASURED = "measured"  # what --act-mean and --act-norm call the mean and norm of these images
HOW_TO_GET_A_HEAD = " `semseg-cli train-head` makes a head of your images."
Inputs = Setup | LookupSetup | StatsSetup | TrainSetup


def given_inputs(setup: Inputs) -> dict[str, Any]:
    """The value of each of the `INPUTS`, None where the settings leave it out."""
    return {
        name: setup.imgs.root if name == "imgs_root" else getattr(setup, name, None)
        for name in INPUTS
    }


def missing_inputs(setup: Inputs, needed: Sequence[str] = INPUTS) -> list[str]:
    """The options of the needed `INPUTS` that the settings leave out."""
    given = given_inputs(setup)
    return [f"--{name.replace('_', '-')}" for name in needed if given[name] is None]


def require_inputs(setup: Inputs, needed: Sequence[str]) -> None:
    """Refuses settings that leave out one of the needed `INPUTS`, and says which of those that are
    given are not there."""
    if missing := missing_inputs(setup, needed):
        what = "name it" if len(missing) == 1 else "name them all"
        how = HOW_TO_GET_A_HEAD if "--seg-ckpt" in missing else ""
        raise UsageError(
            f"{_absent(given_inputs(setup))}Missing {', '.join(missing)}: {what}, or take "
            f"--preset demo.{how}"
        )


def _absent(given: Mapping[str, Any]) -> str:
    """Which inputs name a local path that does not exist; a ViT may be a name of a hub."""
    single = {name: str(value) for name, value in given.items() if isinstance(value, str | Path)}
    paths = {name: value for name, value in single.items() if value and "://" not in value}
    named = {
        f"--{name.replace('_', '-')}": path
        for name, path in paths.items()
        if name != "vit_ckpt" or path.startswith((".", "/", "~"))
    }
    gone = [f"{flag} {path}" for flag, path in named.items() if not _exists(path)]
    return f"There is no {', no '.join(gone)}. " if gone else ""


def _exists(path: str) -> bool:
    try:
        return expanded(path).exists()
    except (FileError, OSError, ValueError):  # no home, too long a name, a null byte
        return False


def require_named(
    setup: Inputs, needed: Sequence[str], splits: Sequence[str], lookup: str | None = None
) -> None:
    """Refuses settings that leave out a needed input, or name one that is not there.

    Names of a hub, of runs, addresses and the demo world, which is drawn on use, are taken as they
    are. In the order in which a run reads them, so that of several mistakes the same is told.

    Raises:
        SemsegError: an input is missing or not there, or the images lack one of these splits.
    """
    if lookup and is_lookup_path(lookup):
        lookup_from_path(lookup)
    require_inputs(setup, needed)
    _require_images(setup, splits)
    named = given_inputs(setup)
    saes, head, vit = (named[name] for name in ("sae_ckpt", "seg_ckpt", "vit_ckpt"))
    for sae in [saes] if isinstance(saes, str) else saes or ():
        if not (sae.startswith(ON_THE_HUB) or PATTERN & set(sae)):
            require_sae(expanded(sae))
    if "seg_ckpt" in needed and not is_address(str(head)):
        require_head(expanded(head))
    if vit.startswith(OUTSIDE):
        vit_folder(vit, vit)
    _require_statistics(setup)


def _require_images(setup: Inputs, splits: Sequence[str]) -> None:
    root = setup.imgs.root
    if root is not None and root != world_folder(cache_folder(setup.cache_dir)):
        for split in splits:
            check_layout(root, split, setup.data_format)


def stats_file(stats: str | None) -> Path | None:
    """The file of several statistics that settings name: a run folder stands for its own."""
    path = None if stats is None else expanded(stats)
    return path / STATS_FILE if path is not None and path.is_dir() else path


def _require_statistics(setup: Inputs) -> None:
    if (several := stats_file(getattr(setup, "stats", None))) is not None:
        require_statistics(several)
    for name in STATISTICS:
        source = getattr(setup, name, None)
        if isinstance(source, str) and source != MEASURED and not _is_number(source):
            require_statistics(expanded(source), name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

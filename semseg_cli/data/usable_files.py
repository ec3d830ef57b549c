"""Whether the files of a split can be used: all, or those that can, with the others listed."""

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from semseg_cli.data.layouts.layout import Entry, Found
from semseg_cli.data.pictures import check_pair, read_pair
from semseg_cli.errors import SemsegError
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks import group as ranks

MOST_TOLD = 10  # skipped images that a user is told of; the dataset lists all
log = logging.getLogger("semseg_cli")


@dataclass(frozen=True)
class Skipped:
    """An image that is left out, and the sentence that says why."""

    name: str
    reason: str


def require_whole(found: Found, indices: Sequence[int]) -> None:
    """Refuses a split with an unpaired file, or with headers that do not fit among the wanted.

    Each rank looks at its own share of the headers.

    Raises:
        SemsegError: names the first such file.
    """
    reasons = [reason for entry in found.entries if (reason := _unpaired(entry))]
    if reasons:
        raise SemsegError(f"{reasons[0]} ({len(reasons)} such files): {found.rule}.")
    for position in ranks.shard(len(indices)):
        entry = found.entries[indices[position]]
        assert entry.image is not None
        assert entry.mask is not None
        check_pair(entry.image, entry.mask, found.labels)


def sort_out(
    found: Found, indices: Sequence[int], progress: Progress = silent
) -> tuple[list[int], tuple[Skipped, ...]]:
    """The wanted indices whose files are good, and the others with their reasons.

    Every wanted file is decoded whole here, by one of the ranks, so that nothing is found bad
    later: which images are left out is decided once, and the others keep their indices.

    Raises:
        SemsegError: none is good; the sentence is the first one's.
    """
    good: list[int] = []
    skipped: list[Skipped] = []
    own = [found.entries[indices[position]] for position in ranks.shard(len(indices))]
    parts = ranks.from_all("bad images", json.dumps(_problems(own, found, progress)).encode())
    for i, reason in zip(indices, chain(*map(json.loads, parts)), strict=True):
        if reason is None:
            good.append(i)
        else:
            skipped.append(Skipped(found.entries[i].name, reason))
    if not good:
        raise SemsegError(f"None of the {len(indices)} images can be used: {skipped[0].reason}")
    return good, tuple(skipped)


def _problems(entries: Sequence[Entry], found: Found, progress: Progress) -> list[str | None]:
    """Why each image cannot be used; None where it can."""
    advance = progress("checking images", len(entries))
    reasons = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            for reason in pool.map(lambda entry: _problem(entry, found), entries):
                reasons.append(reason)
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return reasons


def warn_of(skipped: Sequence[Skipped], n_all: int, split: str) -> None:
    """Counts and lists what is left out."""
    if not skipped:
        return
    log.warning("Skipped %d of %d images of %s:", len(skipped), n_all, split)
    for one in skipped[:MOST_TOLD]:
        log.warning("  %s", one.reason)
    if len(skipped) > MOST_TOLD:
        log.warning("  ... and %d more.", len(skipped) - MOST_TOLD)


def _problem(entry: Entry, found: Found) -> str | None:
    reason = _unpaired(entry)
    if reason:
        return f"{reason}: {found.rule}."
    assert entry.image is not None
    assert entry.mask is not None
    try:
        read_pair(entry.image, entry.mask, found.labels)
    except SemsegError as error:
        return str(error)
    return None


def _unpaired(entry: Entry) -> str | None:
    if entry.image is None and entry.mask is None:
        return f"{entry.name} has neither image nor mask"
    if entry.image is None:
        return f"{entry.mask} has no image"
    return f"{entry.image} has no mask" if entry.mask is None else None

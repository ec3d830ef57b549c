"""Which classes have no latent, or not the best one, why, and which option may change it."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from semseg_cli.engine.detections import Detections
from semseg_cli.runs.lookup_csv import LookupRow

MOST_NAMED = 5


@dataclass(frozen=True)
class Search:
    """Where the latents of some classes were looked for, and within which bounds.

    `n_images` of the `n_of_split` images of the lookup split were looked at; `null_sae` is the
    autoencoder whose latents they are, where it is not the given one.
    """

    detections: Detections
    class_names: Sequence[str]
    wanted: Collection[int]
    max_freq: float
    label_threshold: float
    n_images: int
    n_of_split: int
    null_sae: str = ""

    @property
    def is_part(self) -> bool:
        """Whether there are more images to look at."""
        return self.n_images < self.n_of_split

    @property
    def images(self) -> str:
        """What was looked at, in words."""
        part = f"the {self.n_images} of {self.n_of_split} images of " if self.is_part else ""
        return f"{part}the lookup split"

    @property
    def of_sae(self) -> str:
        """Whose latents they are, behind the word; empty for the given autoencoder."""
        return f" of the null SAE {self.null_sae}" if self.null_sae else ""

    def remedy(self, *options: str) -> str:
        """What to try; of the options only that which can help."""
        useful = [one for one in options if self.is_part or one != MORE_IMAGES]
        return f" (try {' or '.join(useful)})" if useful else ""


MORE_IMAGES = "more --lookup-images"


def without_latent(
    search: Search, rows: Sequence[LookupRow], every: Sequence[LookupRow]
) -> list[str]:
    """A sentence for each reason why some of the wanted classes have none of the rows.

    `every` has the best latent of each class that one detects, whatever it fires on.
    """
    n_clean = search.detections.n.tolist()
    n_active = search.detections.passed.sum(dim=(1, 2)).tolist()
    lacking = sorted(set(search.wanted) - {row.class_id for row in rows})
    detected = {row.class_id for row in every}
    unseen = [c for c in lacking if not n_clean[c]]
    frequent = [c for c in lacking if c in detected]
    silent = [c for c in lacking if n_clean[c] and not n_active[c]]
    never = [c for c in lacking if c not in {*unseen, *frequent, *silent}]
    least = search.detections.thresholds.share(0) or 0.0
    above = f" above {least:g} of its maximum" if least > 0 else ""
    lower = ["a smaller --threshold"] if least > 0 else []
    said = {
        f"no patch of {search.images} has the class on at least {search.label_threshold:.4g} of "
        f"its pixels{search.remedy('a smaller --label-threshold', MORE_IMAGES)}.": unseen,
        f"only latents fire on it that fire on {search.max_freq:g} or more of all patches"
        f"{search.remedy('a larger --max-freq')}.": frequent,
        f"no latent fires on its clean patches{above}{search.remedy(*lower, MORE_IMAGES)}.": silent,
        "only latents fire on it that never do by --sparsity (leave that out to have it "
        "measured).": never,
    }
    return [
        f"{_named([search.class_names[c - 1] for c in ids])} no latent{search.of_sae}: {why}"
        for why, ids in said.items()
        if ids
    ]


def not_the_best(
    search: Search, rows: Sequence[LookupRow], every: Sequence[LookupRow]
) -> list[str]:
    """A sentence where classes have a latent, and one that fires too often has the better F1."""
    best = {row.class_id: row.f1 for row in rows if row.rank == 1}
    worse = [row for row in every if row.f1 > best.get(row.class_id, math.inf)]
    if not worse:
        return []
    most = max(row.frequency for row in worse)
    return [
        f"For {len(worse)} of {len(best)} classes the latent{search.of_sae} with the best F1 is "
        f"left out,\nsince it fires on {search.max_freq:g} or more of the patches: try --max-freq "
        f"{min(1.0, math.ceil(most * 100 + 1) / 100):.2g} to let it in."
    ]


def _named(names: Sequence[str]) -> str:
    """The first names with their verb."""
    more = ", ..." if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'has' if len(names) == 1 else 'have'}"

"""Where each class's score stands among what other latents do, and which classes are claimed.

A score is target change minus other change, of a class's own latents and of every null alike, on
the same images. Five things are asked of a class; `decided` says which one it fails, and is the one
place that decides:

1. No more than chance of the peers, and of the matched peers, do as well: the larger of both p
   values, after Benjamini-Hochberg over the classes, is at most .05. (The larger one is a p value
   of "the latent is like one of the peers, or like one of the matched ones".) Classes that fail 2
   to 5 count there as p = 1: they would else make room for others, and of the classes claimed more
   than .05 could be no better than chance.
2. The latents of no other class do as well: else the class is the business of those. Where those
   of one class alone were tried, of several, this is not known, and the class is not claimed.
3. Most of the class's patches change: standing above nulls that do nothing is no drive.
4. No other class changes by half as much: its own patches then are nearer to that class's fate than
   to being left alone. The pooled other change hides this where there are many classes.
5. The latents are needed: without them, at 0, some of the class's patches change, too. Else a push
   along their direction drives the class, and not what they say: so many a principal direction
   does, which says next to nothing of the class (`benchmarks/planted`).

No torch in here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from semseg_cli.runs.inference import benjamini_hochberg
from semseg_cli.runs.inference.answers import ALPHA
from semseg_cli.runs.inference.measured import MIN_IMAGES_OF_A_CLASS
from semseg_cli.runs.rows import Row
from semseg_cli.typed import typed

LEAST_DRIVE = 0.5  # share of a class's patches that its latents have to change
ROUNDING = 1e-9
LEAST_NEED = 0.05  # share of them that has to change when the latents are set to 0
MOST_SPILL = 0.5  # of that share, on the patches of any other class


@dataclass(frozen=True)
class Evidence:
    """Counts, columns as in `per_image.COUNTED`, that claims rest on.

    `own_kc4` has what the latents of each class with latents do to every class of the dataset,
    `ablated_kc4` what setting them to 0 does, `peers_rc4` what each peer, a latent, does.
    `matched_rk4` has the own edit of each class first, then its matched peers', on the images that
    are sampled for it: `n_sampled_k` of them; `matched_bk4` all of these peers by image, zeros
    where an image was not sampled. `n_images_c` images have patches of a class.
    """

    class_ids: tuple[int, ...]
    latents: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]  # of the dataset
    n_images_c: Int64[np.ndarray, " c"]
    own_kc4: Int64[np.ndarray, "k c 4"]
    ablated_kc4: Int64[np.ndarray, "k c 4"]
    peers: tuple[int, ...]
    peers_rc4: Int64[np.ndarray, "r c 4"]
    matched_rk4: Int64[np.ndarray, "r2 k 4"]
    n_sampled_k: Int64[np.ndarray, " k"]
    n_peers: int  # of each class, at most
    matched_bk4: Int64[np.ndarray, "b k 4"]

    @property
    def n_matched(self) -> int:
        """Matched peers of each class."""
        return len(self.matched_rk4) - 1

    def peers_of(self, k: int) -> Int64[np.ndarray, "r c 4"]:
        """What the peers of a class do: the first that are none of its own latents."""
        kept = [row for row, latent in enumerate(self.peers) if latent not in self.latents[k]]
        return self.peers_rc4[kept[: self.n_peers]]

    def share_latents(self, one: int, other: int) -> bool:
        """Whether two classes have a latent in common."""
        return not set(self.latents[one]).isdisjoint(self.latents[other])


@dataclass(frozen=True)
class Null:
    """Scores that a class's own is held against: how many, their distribution, the p value."""

    n: int
    median: float
    p95: float
    p: float


@dataclass(frozen=True)
class Standing:
    """Where a class stands. All but names and numbers of patches is None where it is not told:
    too few patches are predicted as the class, or in too few images.

    `matched_value` is the class's own score on the images of its matched peers. `rival` is the
    best score that the latents of another class reach for it, `spill` the largest change of the
    patches of another class, each with that class. `necessity` is the target change of latents at
    0. `doubt` is why it is not claimed, else "".
    """

    class_id: int
    class_name: str
    latent: str  # joined by + where they are several
    n_patches: int
    target_change: float | None = None
    other_change: float | None = None
    value: float | None = None
    peers: Null | None = None
    matched_value: float | None = None
    matched: Null | None = None
    n_matched_images: int | None = None
    rival: float | None = None
    rival_class: str | None = None
    spill: float | None = None
    spill_class: str | None = None
    necessity: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    doubt: str = ""

    @property
    def is_told(self) -> bool:
        """Whether there is enough of the class to judge it."""
        return self.value is not None

    @property
    def is_claimed(self) -> bool:
        """Whether the latents do for the class what no control does."""
        return self.is_told and not self.doubt

    def to_row(self) -> Row:
        """The class as a row of calibration.csv."""
        plain = {k: v for k, v in vars(self).items() if k not in ("peers", "matched", "doubt")}
        found = {
            f"{name}_{key}": getattr(null, key) if null else None
            for name, null in (("peers", self.peers), ("matched", self.matched))
            for key in ("n", "median", "p95", "p")
        }
        return {**plain, **found, "claimed": int(self.is_claimed), "doubt": self.doubt}


def decided(found: Sequence[Standing]) -> list[Standing]:
    """The classes of one dictionary with corrected p values, and with doubts of those that are not
    claimed. The rule of the module's docstring."""
    refusals = [_refusal(one) for one in found]
    asked = [1.0 if why else one.p for one, why in zip(found, refusals, strict=True)]
    return [
        replace(one, p_adjusted=adjusted, doubt=_chance(one) or why or _chance_corrected(adjusted))
        for one, why, adjusted in zip(found, refusals, benjamini_hochberg(asked), strict=True)
    ]


def _chance(standing: Standing) -> str:
    """Why there is nothing to be told of a class, or its p alone is too large; else ""."""
    if standing.p is None:
        return "too few patches"
    if standing.p > ALPHA + ROUNDING:
        is_matched = _fails_matched(standing)
        null = standing.matched if is_matched else standing.peers
        if null is not None and null.p <= 1 / (1 + null.n) + ROUNDING:
            return "too few nulls"  # none of them reaches it
        return f"{'matched peers' if is_matched else 'peers'} reach it"
    return ""


def _refusal(standing: Standing) -> str:
    """Which of the questions 2 to 5 a class fails first, or that one cannot be asked; else ""."""
    if standing.doubt:
        return standing.doubt
    target, value, spill = standing.target_change, standing.value, standing.spill
    if target is None or value is None:
        return ""
    if standing.rival is not None and standing.rival >= value:
        return f"latents of {standing.rival_class} reach it"
    if target < LEAST_DRIVE:
        return "most patches stay"
    if spill is not None and spill >= MOST_SPILL * target:
        return f"changes {standing.spill_class}, too"
    if standing.necessity is not None and standing.necessity < LEAST_NEED:
        return "hardly needed"
    return ""


def _chance_corrected(adjusted: float | None) -> str:
    return "p above .05" if adjusted is not None and adjusted > ALPHA + ROUNDING else ""


def _fails_matched(standing: Standing) -> bool:
    peers, matched = standing.peers, standing.matched
    return matched is not None and (peers is None or matched.p >= peers.p)


def calibrate(evidence: Evidence, min_patches: int = 0) -> list[Standing]:
    """Where every class with latents stands, and whether it is claimed."""
    return decided([_standing(evidence, k, min_patches) for k in range(len(evidence.class_ids))])


def n_causal(standings: Sequence[Standing]) -> int:
    """How many classes are claimed."""
    return sum(standing.is_claimed for standing in standings)


def n_judged(standings: Sequence[Standing]) -> int:
    """How many classes could be claimed or not."""
    return sum(standing.is_told for standing in standings)


def alone(n_classes: int) -> int:
    """How many nulls let one class of so many be claimed alone: 1 / (1 + R) <= .05 / K."""
    return max(0, math.ceil(n_classes / ALPHA - 1e-9) - 1)


def is_enough(n_patches: int, n_images: int, min_patches: int) -> bool:
    """Whether a class has enough patches, in enough images, to be judged (as for macro means)."""
    return n_patches >= max(1, min_patches) and n_images >= MIN_IMAGES_OF_A_CLASS


def _standing(evidence: Evidence, k: int, min_patches: int) -> Standing:
    class_id = evidence.class_ids[k]
    c, own_c4 = class_id - 1, evidence.own_kc4[k]
    latent = "+".join(map(str, evidence.latents[k]))
    named = Standing(class_id, evidence.class_names[c], latent, int(own_c4[c, 0]))
    is_told_c = [
        is_enough(int(n), int(i), min_patches)
        for n, i in zip(own_c4[:, 0], evidence.n_images_c, strict=True)
    ]
    peers_r4 = evidence.peers_of(k)[:, c]
    matched_r4 = evidence.matched_rk4[:, k]
    if not (is_told_c[c] and len(peers_r4) and len(matched_r4) > 1):
        return named
    target_c, other_c = _changes(own_c4)
    value, scores_r = float(target_c[c] - other_c[c]), _scores(matched_r4)
    peers, matched = _null(value, _scores(peers_r4)), _null(float(scores_r[0]), scores_r[1:])
    rival, rival_class = _rival(evidence, k)
    spill, spill_class = _spill(evidence, target_c, is_told_c, c)
    is_lonely = len(evidence.class_ids) == 1 < len(evidence.class_names)
    return replace(
        named,
        target_change=float(target_c[c]),
        other_change=float(other_c[c]),
        value=value,
        peers=peers,
        matched_value=float(scores_r[0]),
        matched=matched,
        n_matched_images=int(evidence.n_sampled_k[k]),
        rival=rival,
        rival_class=rival_class,
        spill=spill,
        spill_class=spill_class,
        necessity=float(_changes(evidence.ablated_kc4[k])[0][c]),
        doubt="no other class tried" if is_lonely else "",
        p=max(peers.p, matched.p),
    )


def _rival(evidence: Evidence, k: int) -> tuple[float | None, str | None]:
    """The best that the latents of another class do for class k, and whose they are.

    Latents that both share are no rival's: what they do to both is a spill.
    """
    c = evidence.class_ids[k] - 1
    scores_k = _scores(evidence.own_kc4[:, c])
    others = [
        i for i in range(len(evidence.latents)) if i != k and not evidence.share_latents(i, k)
    ]
    if not others:
        return None, None
    best = max(others, key=lambda i: float(scores_k[i]))
    return float(scores_k[best]), evidence.class_names[evidence.class_ids[best] - 1]


def _spill(
    evidence: Evidence, target_c: Float64[np.ndarray, " c"], is_told_c: Sequence[bool], c: int
) -> tuple[float | None, str | None]:
    others = [d for d, is_told in enumerate(is_told_c) if is_told and d != c]
    if not others:
        return None, None
    most = max(others, key=lambda d: float(target_c[d]))
    return float(target_c[most]), evidence.class_names[most]


def _null(value: float, scores_r: Float64[np.ndarray, " r"]) -> Null:
    n_as_good = int((scores_r >= value).sum())
    n = len(scores_r)
    median, p95 = np.quantile(scores_r, [0.5, 0.95]).tolist()
    return Null(n, median, p95, (1 + n_as_good) / (1 + n))


@typed
def _changes(
    counts_n4: Int64[np.ndarray, "n 4"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Target and other change; 0 over nothing."""
    whole_n2, part_n2 = counts_n4[:, [0, 2]], counts_n4[:, [1, 3]]
    shares_n2 = part_n2 / np.maximum(whole_n2, 1)
    return shares_n2[:, 0], shares_n2[:, 1]


def _scores(counts_n4: Int64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    target_n, other_n = _changes(counts_n4)
    return target_n - other_n

"""A method against a control that was drawn at random: the luck of the draw belongs to the error.

Counts of a control's images are summed over its draws. A control draws for each class (a random
latent) or once for all of them (a random vector); the latter says nothing of the draw's luck unless
it was drawn often.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from semseg_cli.runs.inference.answers import Difference, Interval, Test, too_few
from semseg_cli.runs.inference.measured import MEASURES, Measured, macro_classes, measure
from semseg_cli.runs.inference.rates import carriers
from semseg_cli.typed import typed

Scope = Literal["macro", "pooled"]
MIN_CLASSES = 6  # discounted for unequal weights; with one draw per class
MIN_DRAWS_RANK = 19  # 1 / (1 + 19) = .05
MIN_DRAWS_SHARED = 20
MIN_DF = 5.0  # of draws per class
N_SWAPS = 9999


@dataclass(frozen=True)
class Part:
    """A source of variance of a difference."""

    variance: float
    df: float


@dataclass(frozen=True)
class Gap:
    """A method minus a control in one measure, as a weighted sum over classes."""

    weight_c: Float64[np.ndarray, " c"]  # of each class in the mean; sums to 1
    gap_c: Float64[np.ndarray, " c"]  # weighted: the sum is the difference
    score_bc: Float64[np.ndarray, "b c"]  # the same of each image
    drawn_cr: Float64[np.ndarray, "c r"]  # weighted values of the control, draw by draw
    n_images: int
    kish: float

    @property
    def value(self) -> float:
        """The difference."""
        return float(self.gap_c.sum())

    @property
    def n_draws(self) -> int:
        """How often the control was drawn."""
        return self.drawn_cr.shape[1]

    @property
    def n_classes(self) -> float:
        """The classes, discounted for unequal weights."""
        return float(1 / (self.weight_c**2).sum())


@typed
def control_differences(
    method_bc4: Int64[np.ndarray, "b c 4"],
    control_bc4: Int64[np.ndarray, "b c 4"],
    draws_rc4: Int64[np.ndarray, "r c 4"] | None = None,
    *,
    scope: Scope = "macro",
    min_patches: int = 1,
    is_shared: bool = False,
    is_draw: bool = False,
    seed: int = 0,
) -> dict[str, Difference]:
    """Per measure a run minus a control, on the same images in the same order.

    Args:
        draws_rc4: the control's counts per draw; None for one draw.
        is_shared: whether one draw serves all classes.
        is_draw: whether the run is itself one draw of the same kind, compared with its like.
    """
    kept_c = macro_classes(method_bc4, min_patches) if scope == "macro" else slice(None)
    drawn = control_bc4.sum(axis=0, keepdims=True) if draws_rc4 is None else draws_rc4
    gaps = _gaps(method_bc4[:, kept_c], control_bc4[:, kept_c], drawn[:, kept_c], scope)
    return {name: _difference(gap, name, is_shared, is_draw, seed) for name, gap in gaps.items()}


@typed
def control_class_differences(
    method_bc4: Int64[np.ndarray, "b c 4"],
    control_bc4: Int64[np.ndarray, "b c 4"],
    draws_rc4: Int64[np.ndarray, "r c 4"] | None = None,
    *,
    is_draw: bool = False,
    seed: int = 0,
) -> dict[str, list[Difference]]:
    """The same for every class by itself, which a draw then serves alone."""
    found = [
        control_differences(
            method_bc4[:, c : c + 1],
            control_bc4[:, c : c + 1],
            None if draws_rc4 is None else draws_rc4[:, c : c + 1],
            scope="pooled",
            is_draw=is_draw,
            seed=seed,
        )
        for c in range(method_bc4.shape[1])
    ]
    return {name: [of_class[name] for of_class in found] for name in MEASURES}


def _gaps(
    method_bc4: Int64[np.ndarray, "b c 4"],
    control_bc4: Int64[np.ndarray, "b c 4"],
    draws_rc4: Int64[np.ndarray, "r c 4"],
    scope: Scope,
) -> dict[str, Gap]:
    sides = measure(method_bc4), measure(control_bc4)
    weights = [_weights(method_bc4[..., i], scope) for i in (0, 2)]
    drawn = [_ratio(draws_rc4[..., i + 1], draws_rc4[..., i]).T for i in (0, 2)]
    return {
        "target_change": _gap(sides, drawn, [(0, weights[0], 1.0)]),
        "other_change": _gap(sides, drawn, [(1, weights[1], 1.0)]),
        "selectivity": _gap(sides, drawn, [(0, weights[0], 1.0), (1, weights[1], -1.0)]),
    }


def _weights(total_bc: Int64[np.ndarray, "b c"], scope: Scope) -> Float64[np.ndarray, " c"]:
    total_c = total_bc.sum(axis=0) if scope == "pooled" else np.ones(total_bc.shape[1])
    return total_c / max(total_c.sum(), 1)


def _ratio(part: Int64[np.ndarray, "..."], whole: Int64[np.ndarray, "..."]) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _gap(
    sides: tuple[Measured, Measured],
    drawn: list[Float64[np.ndarray, "c r"]],
    terms: list[tuple[int, Float64[np.ndarray, " c"], float]],
) -> Gap:
    """The sum of terms: target (0) or other (1), weights of classes, sign."""
    weight_kc = np.array([weight_c for _, weight_c, _ in terms])
    coef_kc = weight_kc * np.array([sign for _, _, sign in terms])[:, None]
    both = [[(side.target, side.other)[which] for side in sides] for which, _, _ in terms]
    shares = [one.share_bc @ weight_c for weight_c, (one, _) in zip(weight_kc, both, strict=True)]
    thinnest = min(shares, key=_kish)
    value_kc = np.array([one.value_c - two.value_c for one, two in both])
    score_kbc = np.array([one.score_bc - two.score_bc for one, two in both])
    drawn_kcr = np.array([drawn[which] for which, _, _ in terms])
    return Gap(
        weight_kc.mean(axis=0),
        (coef_kc * value_kc).sum(axis=0),
        np.einsum("kc,kbc->bc", coef_kc, score_kbc),
        np.einsum("kc,kcr->cr", coef_kc, drawn_kcr),
        int((thinnest > 0).sum()),
        _kish(thinnest),
    )


def _kish(share_b: Float64[np.ndarray, " b"]) -> float:
    return float(share_b.sum() ** 2 / max((share_b**2).sum(), 1e-300))


def _difference(gap: Gap, measure: str, is_shared: bool, is_draw: bool, seed: int) -> Difference:
    method = "t: draws and images" if gap.n_draws > 1 else "two-way t: classes and images"
    p: float | None = None
    reason = too_few(gap.n_images, gap.kish) or _too_few_draws(gap, is_shared)
    if reason:
        value = gap.value if gap.n_images else None
        interval = Interval(value, None, None, None, gap.n_images, method, reason)
    else:
        half, p = _t(gap, _parts(gap, is_shared, is_draw))
        ends = gap.value - half, gap.value + half
        interval = Interval(gap.value, *ends, gap.kish, gap.n_images, method)
    if is_shared and not is_draw and gap.n_draws >= MIN_DRAWS_RANK:
        return Difference(interval, rank_test(gap, measure))
    if p is not None and gap.n_draws == 1:
        return Difference(interval, swap_test(gap, seed))
    return Difference(interval, Test(p, method, reason))


def _too_few_draws(gap: Gap, is_shared: bool) -> str:
    """Why so few draws say nothing of the luck of the draw, and how many would; else ''."""
    n_needed = draws_needed(gap.n_classes, is_shared)
    if gap.n_draws >= n_needed:
        return ""
    draws = "one draw" if gap.n_draws == 1 else f"{gap.n_draws} draws"
    of_what = "for all classes" if is_shared else f"over {gap.n_classes:.2g} equal classes"
    return f"{draws} {of_what} cannot tell skill from luck: run the control with --draws {n_needed}"


def draws_needed(n_classes: float, is_shared: bool) -> int:
    """How many draws of a control an interval of a mean over so many equal classes needs."""
    if is_shared:
        return MIN_DRAWS_SHARED
    return 1 if n_classes >= MIN_CLASSES else 1 + math.ceil(MIN_DF / n_classes)


def _parts(gap: Gap, is_shared: bool, is_draw: bool) -> list[Part]:
    """Images, and draws; where each class was drawn once, the spread over classes stands for them
    and holds the images' part that is not shared already (Owen 2007)."""
    if gap.n_draws == 1:
        return [_class_part(gap), _image_part(gap, float((gap.score_bc**2).sum()))]
    draws = _draw_part(gap.drawn_cr.sum(axis=0, keepdims=True) if is_shared else gap.drawn_cr)
    n_lots = gap.n_draws + 1 if is_draw else 1
    return [Part(draws.variance * n_lots, draws.df), _image_part(gap, 0.0)]


def _image_part(gap: Gap, counted: float) -> Part:
    score_b = gap.score_bc.sum(axis=1)
    df = float(carriers(score_b[:, None])[0]) - 1
    return Part(max(float((score_b**2).sum()) - counted, 0.0), max(df, 1.0))


def _class_part(gap: Gap) -> Part:
    k = gap.n_classes
    spread = float(((gap.gap_c - gap.weight_c * gap.value) ** 2).sum())
    return Part(spread * k / (k - 1), k - 1)


def _draw_part(drawn_cr: Float64[np.ndarray, "c r"]) -> Part:
    n_draws = drawn_cr.shape[1]
    part_c = drawn_cr.var(axis=1, ddof=1) / n_draws
    variance = float(part_c.sum())
    return Part(variance, (n_draws - 1) * variance**2 / max(float((part_c**2).sum()), 1e-300))


def _t(gap: Gap, parts: list[Part]) -> tuple[float, float]:
    """Half the interval's width and the two-sided p value; Satterthwaite's degrees of freedom."""
    variance = sum(part.variance for part in parts)
    df = variance**2 / max(sum(part.variance**2 / max(part.df, 1) for part in parts), 1e-300)
    df, spread = max(df, 1.0), math.sqrt(variance)
    half = float(stats.t.ppf(0.975, df)) * spread
    return half, 2 * float(stats.t.sf(abs(gap.value) / max(spread, 1e-150), df))


def swap_test(gap: Gap, seed: int = 0, n_swaps: int = N_SWAPS) -> Test:
    """Whether the method is as good as a draw, two-sided: the labels of the method and of the draws
    are exchanged class by class, at random."""
    own_c = gap.drawn_cr.mean(axis=1) + gap.gap_c
    value_cr = np.concatenate([own_c[:, None], gap.drawn_cr], axis=1)
    rest_cr = (value_cr.sum(axis=1, keepdims=True) - value_cr) / gap.n_draws
    gap_cr = value_cr - rest_cr
    picked = np.random.default_rng(seed).integers(0, gap.n_draws + 1, (n_swaps, len(value_cr)))
    null = gap_cr[np.arange(len(value_cr)), picked].sum(axis=1)
    n_extreme = int((np.abs(null) >= abs(gap_cr[:, 0].sum()) - 1e-9).sum())
    return Test((1 + n_extreme) / (1 + n_swaps), "swap")


def rank_test(gap: Gap, measure: str) -> Test:
    """Whether the method is better than a draw, one-sided: the share of draws at least as good."""
    total_r, sign = gap.drawn_cr.sum(axis=0), -1.0 if measure == "other_change" else 1.0
    own = float(gap.drawn_cr.sum(axis=0).mean()) + gap.value
    n_better = int((sign * total_r >= sign * own - 1e-9).sum())
    return Test((1 + n_better) / (1 + gap.n_draws), "rank, one-sided")

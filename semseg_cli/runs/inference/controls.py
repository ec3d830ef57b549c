"""A method against a control that was drawn at random: the luck of the draw belongs to the error.

Counts of a control's images are summed over its draws, each of them for a class by itself (a random
latent). A random vector is drawn for every image, and compared as any other run is.
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Real

from semseg_cli.runs.inference.answers import LEAST_WIDTH, Difference, Test
from semseg_cli.runs.inference.combined import Term, combined_interval
from semseg_cli.runs.inference.luck import (
    MIN_CLASSES,
    Gap,
    over_classes,
    over_draws,
    swap_test,
)
from semseg_cli.runs.inference.measured import MEASURES, Measured, macro_classes, measure
from semseg_cli.typed import typed

Scope = Literal["macro", "pooled"]
MIN_DF = 5.0  # of draws per class


def control_differences(
    method_bc4: Real[np.ndarray, "b c 4"],
    control_bc4: Real[np.ndarray, "b c 4"],
    draws_rc4: Real[np.ndarray, "r c 4"] | None = None,
    *,
    scope: Scope = "macro",
    min_patches: int = 1,
    is_draw: bool = False,
    can_draw: bool = True,
    seed: int = 0,
    rates: tuple[Measured, Measured] | None = None,
) -> dict[str, Difference]:
    """Per measure a run minus a control, on the same images in the same order.

    Shapes are checked where rates are made of counts.

    Args:
        draws_rc4: the control's counts per draw; None for one draw.
        is_draw: whether the run is itself one draw of the same kind, compared with its like.
        can_draw: whether the control can be drawn more often (`--draws`).
        rates: those of both runs, where they are known.
    """
    every_c = np.ones(method_bc4.shape[1], dtype=bool)
    kept_c = macro_classes(method_bc4, min_patches) if scope == "macro" else every_c
    drawn = control_bc4.sum(axis=0, keepdims=True) if draws_rc4 is None else draws_rc4
    sides = rates and (rates[0].of(kept_c), rates[1].of(kept_c))
    gaps = gaps_of(method_bc4[:, kept_c], control_bc4[:, kept_c], drawn[:, kept_c], scope, sides)
    found = {}
    for name, gap in gaps.items():
        reason = gap.images.reason or _too_few_draws(gap, can_draw)
        found[name] = _difference(gap, reason, is_draw, seed)
    return found


@typed
def control_class_differences(
    method_bc4: Real[np.ndarray, "b c 4"],
    control_bc4: Real[np.ndarray, "b c 4"],
    draws_rc4: Real[np.ndarray, "r c 4"] | None = None,
    *,
    is_draw: bool = False,
    can_draw: bool = True,
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
            can_draw=can_draw,
            seed=seed,
        )
        for c in range(method_bc4.shape[1])
    ]
    return {name: [of_class[name] for of_class in found] for name in MEASURES}


def gaps_of(
    method_bc4: Real[np.ndarray, "b c 4"],
    control_bc4: Real[np.ndarray, "b c 4"],
    draws_rc4: Real[np.ndarray, "r c 4"],
    scope: Scope,
    rates: tuple[Measured, Measured] | None = None,
) -> dict[str, Gap]:
    """Per measure how far a method lies from a control, and what that is made of; `rates` are those
    of both, where they are known."""
    sides = rates or (measure(method_bc4), measure(control_bc4))
    weights = [_weights(method_bc4[..., i], scope) for i in (0, 2)]
    drawn = [_ratio(draws_rc4[..., i + 1], draws_rc4[..., i]).T for i in (0, 2)]
    return {
        "target_change": _gap(sides, drawn, [(0, weights[0], 1.0)]),
        "other_change": _gap(sides, drawn, [(1, weights[1], 1.0)]),
        "selectivity": _gap(sides, drawn, [(0, weights[0], 1.0), (1, weights[1], -1.0)]),
    }


def _weights(total_bc: Real[np.ndarray, "b c"], scope: Scope) -> Float64[np.ndarray, " c"]:
    total_c = total_bc.sum(axis=0) if scope == "pooled" else np.ones(total_bc.shape[1])
    return total_c / max(total_c.sum(), 1)


def _ratio(part: Real[np.ndarray, "..."], whole: Real[np.ndarray, "..."]) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _gap(
    sides: tuple[Measured, Measured],
    drawn: list[Float64[np.ndarray, "c r"]],
    parts: list[tuple[int, Float64[np.ndarray, " c"], float]],
) -> Gap:
    """The sum of parts: target (0) or other (1), weights of classes, sign."""
    weight_kc = np.array([weight_c for _, weight_c, _ in parts])
    coef_kc = weight_kc * np.array([sign for _, _, sign in parts])[:, None]
    both = [[(side.target, side.other)[which] for side in sides] for which, _, _ in parts]
    value_kc = np.array([one.value_c - two.value_c for one, two in both])
    score_kbc = np.array([one.score_bc - two.score_bc for one, two in both])
    drawn_kcr = np.array([drawn[which] for which, _, _ in parts])
    terms = tuple(
        Term(side, sign * coef_c)
        for coef_c, pair in zip(coef_kc, both, strict=True)
        for side, sign in zip(pair, (1.0, -1.0), strict=True)
    )
    return Gap(
        weight_kc.mean(axis=0),
        (coef_kc * value_kc).sum(axis=0),
        np.einsum("kc,kbc->bc", coef_kc, score_kbc),
        np.einsum("kc,kcr->cr", coef_kc, drawn_kcr),
        combined_interval(terms),
        terms,
    )


def _difference(gap: Gap, reason: str, is_draw: bool, seed: int) -> Difference:
    is_one = gap.n_draws == 1
    method = "two-way t: classes and images" if is_one else "t: draws and images"
    lo = hi = p = None
    if not reason:
        lo, hi, p = over_classes(gap) if is_one else over_draws(gap, is_draw)
        reason = (
            ""
            if hi - lo >= LEAST_WIDTH
            else "nothing differs: nothing shows how far other draws would"
        )
    if reason:
        lo = hi = p = None
    n_eff = None if reason else gap.images.n_eff
    interval = replace(gap.images, lo=lo, hi=hi, n_eff=n_eff, method=method, reason=reason)
    test = swap_test(gap, seed) if is_one and not reason else Test(p, method, reason)
    return Difference(interval, test)


def _too_few_draws(gap: Gap, can_draw: bool) -> str:
    """Why so few draws say nothing of the luck of the draw, and how many would; else ''."""
    n_needed = draws_needed(gap.n_classes)
    if gap.n_draws >= n_needed:
        return ""
    draws = "one draw" if gap.n_draws == 1 else f"{gap.n_draws} draws"
    why = f"{draws} {_of_what(gap.n_classes)} cannot tell skill from luck"
    if can_draw:
        return f"{why}: run the control with --draws {n_needed}"
    return f"{why}, and this control has no --draws: compare over more classes"


def _of_what(n_classes: float) -> str:
    if n_classes == 1:
        return "of one class"
    if n_classes == int(n_classes):
        return f"over {n_classes:.0f} classes"
    return f"over classes as good as {n_classes:.2g} equal ones"


def draws_needed(n_classes: float) -> int:
    """How many draws of a control an interval of a mean over so many equal classes needs."""
    return 1 if n_classes >= MIN_CLASSES else 1 + math.ceil(MIN_DF / n_classes)

"""Where a class stands among nulls: hand-worked cases, and a slow, obvious version."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.runs.calibration import (
    Evidence,
    Null,
    Standing,
    alone,
    calibrate,
    decided,
    n_causal,
)
from semseg_cli.runs.claims import headline, reach_note

N_CLASSES = 3
NAMES = ("wall", "sky", "tree")
OWN, OTHERS = 10, 20  # patches of each class, and all others
NO_IMAGES = np.zeros((0, 0, 4), dtype=np.int64)  # claims rest on sums over images


def counts(*changed: int) -> list[list[int]]:
    """Counts of every class: so many of its own patches changed."""
    total = sum(changed)
    return [[OWN, n, OTHERS, total - n] for n in changed]


def evidence(
    own: Sequence[tuple[int, ...]],
    peers: Sequence[tuple[int, ...]],
    matched: Sequence[tuple[int, ...]],
) -> Evidence:
    """Classes with latents 0, 1, 2; peers 100 and on; matched: the own edits and then others."""
    first = tuple(found[i] for i, found in enumerate(own))
    lines = [first, *matched]
    return Evidence(
        class_ids=tuple(range(1, N_CLASSES + 1)),
        latents=tuple((i,) for i in range(N_CLASSES)),
        class_names=NAMES,
        n_images_c=np.array([5] * N_CLASSES),
        own_kc4=np.array([counts(*found) for found in own]),
        ablated_kc4=np.array([counts(*found) for found in own]),
        peers=tuple(range(100, 100 + len(peers))),
        peers_rc4=np.array([counts(*found) for found in peers]),
        matched_rk4=np.array([[[OWN, n, OTHERS, 0] for n in line] for line in lines]),
        n_sampled_k=np.array([4] * N_CLASSES),
        n_peers=len(peers),
        matched_bk4=NO_IMAGES,
    )


def plain(**changes: Any) -> Evidence:
    """The wall's latents change it alone; sky's do nothing; the tree's change wall and tree."""
    made = evidence(
        own=[(10, 0, 0), (0, 0, 0), (8, 0, 8)],
        peers=[(0, 0, 0)] * 99,
        matched=[(1, 1, 1)] * 79,
    )
    return replace(made, **changes)


def test_scores_quantiles_and_p_values_by_hand() -> None:
    wall, sky, tree = calibrate(plain())
    assert (wall.target_change, wall.other_change, wall.value) == (1.0, 0.0, 1.0)
    assert wall.peers is not None
    assert wall.matched is not None
    assert (wall.peers.n, wall.peers.median, wall.peers.p) == (99, 0.0, 0.01)
    assert (wall.matched.n, wall.matched.p95, wall.matched.p) == (79, 0.1, 1 / 80)
    assert wall.p == 1 / 80
    assert wall.p_adjusted == pytest.approx(3 / 80)  # the tree, which stands alike, is refused
    assert wall.rival == pytest.approx(0.8 - 0.4)
    assert wall.rival_class == "tree"
    assert (wall.spill, wall.spill_class) == (0.0, "sky")
    assert sky.peers is not None
    assert sky.peers.p == 1.0
    assert (tree.spill, tree.spill_class) == (0.8, "wall")


def test_a_class_that_hardly_changes_without_its_latent_is_not_claimed() -> None:
    made = plain()
    ablated = made.ablated_kc4.copy()
    ablated[0, 0] = [100, 4, OTHERS, 0]
    wall = calibrate(replace(made, ablated_kc4=ablated))[0]
    assert (wall.necessity, wall.doubt) == (0.04, "hardly needed")
    ablated[0, 0] = [100, 5, OTHERS, 0]
    assert calibrate(replace(made, ablated_kc4=ablated))[0].is_claimed


def test_each_question_has_its_own_refusal() -> None:
    found = calibrate(plain())
    assert [one.doubt for one in found] == [
        "",
        "matched peers reach it",
        "changes wall, too",
    ]
    assert [one.is_claimed for one in found] == [True, False, False]
    assert n_causal(found) == 1
    assert headline(found) == "For 1 of 3 classes the latent passes every check."


LUCKY, RARE = Null(99, 0.0, 0.1, 0.04), Null(99, 0.0, 0.1, 0.01)


def standing(**changes: Any) -> Standing:
    base = Standing(
        1, "wall", "7", 50, 0.8, 0.1, 0.7,
        rival=0.2, rival_class="sky", spill=0.3, spill_class="tree", p=0.01,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "reason", "adjusted"),
    [
        ({}, "", 0.01),
        ({"p": 0.05}, "", 0.05),
        ({"p": 0.06, "peers": LUCKY, "matched": RARE}, "peers reach it", 0.06),
        ({"p": 0.06, "peers": RARE, "matched": LUCKY}, "matched peers reach it", 0.06),
        ({"p": 0.06, "rival": 0.7, "matched": LUCKY}, "matched peers reach it", 1.0),
        ({"p": 0.1, "peers": RARE, "matched": Null(9, 0.0, 0.1, 0.1)}, "too few nulls", 0.1),
        (
            {"p": 0.2, "peers": RARE, "matched": Null(9, 0.0, 0.1, 0.2)},
            "matched peers reach it",
            0.2,
        ),
        ({"rival": 0.7}, "latents of sky reach it", 1.0),
        ({"rival": None, "spill": None}, "", 0.01),
        ({"target_change": 0.49, "value": 0.39}, "most patches stay", 1.0),
        ({"spill": 0.4}, "changes tree, too", 1.0),
        ({"spill": 0.4, "necessity": 0.0}, "changes tree, too", 1.0),
        ({"spill": 0.399}, "", 0.01),
        ({"necessity": 0.049}, "hardly needed", 1.0),
        ({"necessity": 0.05}, "", 0.01),
        ({"target_change": None, "value": None, "p": None}, "too few patches", None),
    ],
)
def test_the_rule(changes: dict[str, Any], reason: str, adjusted: float | None) -> None:
    (found,) = decided([standing(**changes)])
    assert (found.doubt, found.p_adjusted) == (reason, adjusted)


def test_a_refused_class_makes_no_room_for_others() -> None:
    """With both p values asked, .03 would be .03 corrected; the refused one's is 1."""
    refused, other = decided([standing(p=0.001, rival=0.7), standing(p=0.03)])
    assert (refused.p_adjusted, refused.doubt) == (1.0, "latents of sky reach it")
    assert (other.p_adjusted, other.doubt) == (0.06, "p above .05")
    both = decided([standing(p=0.001), standing(p=0.03)])
    assert [one.p_adjusted for one in both] == [0.002, 0.03]


def test_claims_are_false_no_more_often_than_said() -> None:
    """Four of 16 latents are like any other and pass all other checks; the twelve that beat all
    nulls are refused by one. So every claim is false: it may come in 5% of the draws."""
    rng = np.random.default_rng(0)
    drivers = [standing(p=1 / 320, target_change=0.4, value=0.3)] * 12
    n_draws, n_with_claims = 2_000, 0
    for p_values in (1 + rng.integers(0, 320, (n_draws, 4))) / 320:
        n_with_claims += n_causal(decided([*drivers, *(standing(p=p) for p in p_values)])) > 0
    assert n_with_claims <= 0.05 * n_draws


def test_a_peer_that_is_a_class_s_own_latent_is_none_of_its_nulls() -> None:
    peers = [(10, 0, 0), *[(0, 0, 0)] * 99]
    made = evidence([(10, 0, 0)] * 3, peers, [(0, 0, 0)] * 79)
    as_good = calibrate(replace(made, n_peers=99))[0]
    own = calibrate(replace(made, n_peers=99, latents=((100,), (1,), (2,))))[0]
    assert as_good.peers is not None
    assert as_good.peers.p == 2 / 100
    assert own.peers is not None
    assert (own.peers.n, own.peers.p) == (99, 1 / 100)


def test_latents_that_two_classes_share_are_a_spill_and_no_rival() -> None:
    made = evidence([(10, 9, 0), (10, 9, 0), (0, 0, 10)], [(0, 0, 0)] * 99, [(0, 0, 0)] * 79)
    wall, sky, tree = calibrate(replace(made, latents=((5,), (5,), (6,))))
    assert wall.rival_class == sky.rival_class == "tree"
    assert [wall.doubt, sky.doubt, tree.doubt] == ["changes sky, too", "changes wall, too", ""]


def test_a_class_is_not_claimed_where_no_other_was_tried() -> None:
    """Else a class that the latents of another reach could be claimed by asking for it alone."""
    whole = plain()
    first = {
        name: getattr(whole, name)[:1]
        for name in ("class_ids", "latents", "own_kc4", "ablated_kc4", "n_sampled_k")
    }
    by_class = {name: getattr(whole, name)[:, :1] for name in ("matched_rk4", "matched_bk4")}
    (wall,) = calibrate(replace(whole, **first, **by_class))
    assert (wall.rival, wall.doubt, wall.p_adjusted) == (None, "no other class tried", 1.0)
    assert calibrate(whole)[0].is_claimed


def test_classes_with_too_few_patches_or_images_are_not_judged() -> None:
    few = plain(n_images_c=np.array([2, 5, 5]))
    assert [one.is_told for one in calibrate(few)] == [False, True, True]
    assert calibrate(few)[0].doubt == "too few patches"
    assert [one.is_told for one in calibrate(plain(), min_patches=11)] == [False] * 3
    assert headline(calibrate(plain(), min_patches=11)).startswith("No class has enough")
    # Nor is what happens to them a spill.
    assert calibrate(few)[2].spill_class == "sky"


def test_a_row_has_every_number_and_both_nulls() -> None:
    row = calibrate(plain())[0].to_row()
    assert row["peers_p"] == 0.01
    assert row["matched_n"] == 79
    assert row["claimed"] == 1
    untold = calibrate(plain(), min_patches=11)[0].to_row()
    assert untold["peers_p"] is None
    assert untold["claimed"] == 0
    assert set(untold) == set(row)


# --- how far so many nulls reach ------------------------------------------------------------------


@given(st.integers(1, 200))
def test_alone_is_the_least_number_of_nulls_with_which_one_class_can_be_claimed(n: int) -> None:
    needed = alone(n)
    assert 1 / (1 + needed) <= 0.05 / n * (1 + 1e-12)
    assert 1 / needed > 0.05 / n
    assert reach_note(n, {"--peers": needed, "--matched-peers": needed}) == ""


def test_too_few_nulls_are_told_with_what_helps() -> None:
    assert reach_note(16, {"--peers": 319, "--matched-peers": 39}) == (
        "39 nulls give no p below 0.025: corrected over 16 classes, none is claimed unless 8 are. "
        "For one alone: --matched-peers 319."
    )
    both = reach_note(16, {"--peers": 30, "--matched-peers": 10})
    assert both.endswith("classes, none is claimed. For one alone: --peers 319 "
                         "--matched-peers 319.")  # fmt: skip
    assert reach_note(0, {"--peers": 1}) == ""
    spent = reach_note(16, {"--peers": 239, "--matched-peers": 240}, spent=["--peers"])
    assert spent.endswith("none is claimed unless 2 are. No more latents are live.")
    assert "corrected over 1 class, none is claimed." in reach_note(1, {"--peers": 9})


@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 12))
def test_so_many_classes_stand_together_as_the_note_says(n: int, n_nulls: int, n_top: int) -> None:
    """BH itself: the classes above all nulls are claimed if, and only if, they are so many."""
    n_top = min(n, n_top)
    own = [tuple(10 if i == k and k < n_top else 0 for i in range(n)) for k in range(n)]
    made = Evidence(
        class_ids=tuple(range(1, n + 1)),
        latents=tuple((i,) for i in range(n)),
        class_names=tuple(map(str, range(n))),
        n_images_c=np.full(n, 5),
        own_kc4=np.array([[[10, c, 100, 0] for c in line] for line in own]),
        ablated_kc4=np.array([[[10, c, 100, 0] for c in line] for line in own]),
        peers=tuple(range(100, 100 + n_nulls)),
        peers_rc4=np.array([[[10, 0, 100, 0]] * n] * n_nulls),
        matched_rk4=np.array(
            [[[10, line[k], 100, 0] for k, line in enumerate(own)]]
            + [[[10, 0, 100, 0]] * n] * n_nulls
        ),
        n_sampled_k=np.full(n, 5),
        n_peers=n_nulls,
        matched_bk4=NO_IMAGES,
    )
    together = np.ceil(n / 0.05 / (1 + n_nulls) - 1e-9)
    assert n_causal(calibrate(made)) == (n_top if n_top >= together else 0)


# --- the slow, obvious version --------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_calibration_agrees_with_the_slow_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_peers, n_matched = int(rng.integers(1, 30)), int(rng.integers(1, 30))

    def drawn(*shape: int) -> np.ndarray:
        whole = rng.integers(0, 30, (*shape, 2))
        part = np.floor(whole * rng.random((*shape, 2))).astype(np.int64)
        return np.stack([whole[..., 0], part[..., 0], whole[..., 1], part[..., 1]], axis=-1)

    made = Evidence(
        class_ids=(1, 3),
        latents=((4,), (5, 6)),
        class_names=NAMES,
        n_images_c=np.array([9, 9, 9]),
        own_kc4=drawn(2, 3),
        ablated_kc4=drawn(2, 3),
        peers=tuple(rng.permutation(40)[:n_peers].tolist()),
        peers_rc4=drawn(n_peers, 3),
        matched_rk4=drawn(1 + n_matched, 2),
        n_sampled_k=np.array([4, 4]),
        n_peers=n_peers,
        matched_bk4=NO_IMAGES,
    )
    for k, found in enumerate(calibrate(made)):
        c = made.class_ids[k] - 1
        peers = [
            score(made.peers_rc4[r, c])
            for r, latent in enumerate(made.peers)
            if latent not in made.latents[k]
        ]
        if not (made.own_kc4[k, c, 0] and peers):
            assert not found.is_told
            continue
        value = score(made.own_kc4[k, c])
        matched = [score(line[k]) for line in made.matched_rk4]
        worst = max(slow_p(value, peers), slow_p(matched[0], matched[1:]))
        assert found.value == pytest.approx(value)
        assert found.p == pytest.approx(worst)
        assert found.rival == pytest.approx(score(made.own_kc4[1 - k, c]))


def score(counts_4: np.ndarray) -> float:
    own, changed, others, others_changed = (int(n) for n in counts_4)
    return (changed / own if own else 0.0) - (others_changed / others if others else 0.0)


def slow_p(value: float, nulls: list[float]) -> float:
    return (1 + sum(null >= value for null in nulls)) / (1 + len(nulls))

"""Which classes have no latent: each reason with the option that may find one."""

import math
from typing import Any

import pytest
import torch

from semseg_cli.engine.detections import Detections, rank_latents
from semseg_cli.engine.thresholds import Thresholds
from semseg_cli.engine.without_latent import Search, not_the_best, without_latent
from semseg_cli.models.sae.statistics import SaeStats

NAMES = ["road", "pole", "sky", "fog"]
# Latent 0 fires on road, latent 1 on sky and on nearly everything; nothing fires on fog.
ACTS: list[list[float]] = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]]
FREQUENCIES = [0.001, 0.9, 0.0]


def said(
    wanted: list[int],
    max_freq: float = 0.01,
    acts: list[list[float]] = ACTS,
    shares: tuple[float, ...] = (0.0, 0.5),
    **more: Any,
) -> tuple[list[str], list[str]]:
    """The sentences on classes without a latent, and on those with a worse one."""
    stats = SaeStats(torch.zeros(3), 1.0, torch.tensor(FREQUENCIES), torch.ones(3))
    thresholds = Thresholds.shares_of_maximum(shares, stats)
    detections = Detections(1, len(NAMES), 3, thresholds)
    detections.add(torch.tensor(acts), torch.tensor([1, 3, 4]))
    made = {"n_images": 2, "n_of_split": 4, **more}
    search = Search(detections, NAMES, wanted, max_freq, 0.9, **made)
    rows, every = (rank_latents(detections, stats, NAMES, m, top_k=1) for m in (max_freq, math.inf))
    return without_latent(search, rows, every), not_the_best(search, rows, every)


def test_each_class_without_a_latent_is_named_with_its_reason_and_a_remedy() -> None:
    assert said([1, 2, 3, 4]) == (
        [
            "pole has no latent: no patch of the 2 of 4 images of the lookup split has the class "
            "on at least 0.9 of its pixels (try a smaller --label-threshold or more "
            "--lookup-images).",
            "sky has no latent: only latents fire on it that fire on 0.01 or more of all patches "
            "(try a larger --max-freq).",
            "fog has no latent: no latent fires on its clean patches (try more --lookup-images).",
        ],
        [],  # sky is told of above
    )


def test_more_images_are_no_remedy_where_all_were_looked_at() -> None:
    pole, fog = said([2, 4], n_images=4)[0]
    assert pole == (
        "pole has no latent: no patch of the lookup split has the class on at least 0.9 of its "
        "pixels (try a smaller --label-threshold)."
    )
    assert fog.endswith("no latent fires on its clean patches.")


def test_what_fires_below_every_threshold_is_no_silence() -> None:
    (fog,) = said([4], acts=[*ACTS[:2], [0.3, 0, 0]], shares=(0.5,), n_images=4)[0]
    assert fog == (
        "fog has no latent: no latent fires on its clean patches above 0.5 of its maximum (try a "
        "smaller --threshold)."
    )


def test_a_latent_that_is_said_never_to_fire_is_no_silence() -> None:
    (fog,) = said([4], acts=[*ACTS[:2], [0, 0, 1.0]])[0]
    assert "only latents fire on it that never do by --sparsity" in fog


def test_what_is_about_a_null_sae_says_so() -> None:
    (sky,) = said([3], null_sae="pca")[0]
    assert sky.startswith("sky has no latent of the null SAE pca: only latents fire on it")


def test_classes_with_a_worse_latent_than_one_that_fires_too_often_are_counted() -> None:
    # Latent 1 fires on road more than latent 0, which fires on fog as well.
    acts: list[list[float]] = [[1.0, 1.0, 0], [0, 0, 0], [1.0, 0, 0]]
    lacking, (worse,) = said([1, 3, 4], acts=acts)
    assert lacking[0].startswith("sky has no latent: no latent fires")
    assert worse == (
        "For 1 of 2 classes the latent with the best F1 is left out,\nsince it fires on 0.01 or "
        "more of the patches: try --max-freq 0.91 to let it in."
    )


@pytest.mark.parametrize(("wanted", "max_freq"), [([1], 0.01), ([1, 3], 1.0)])
def test_where_all_that_were_asked_for_have_one_nothing_is_said(
    wanted: list[int], max_freq: float
) -> None:
    assert said(wanted, max_freq) == ([], [])

"""Which classes have no latent: each reason with the option that may find one."""

import pytest
import torch

from semseg_cli.engine.detections import Detections, rank_latents
from semseg_cli.engine.thresholds import Thresholds
from semseg_cli.engine.without_latent import warn_of_no_latent
from semseg_cli.models.sae.statistics import SaeStats

NAMES = ["road", "pole", "sky", "fog"]
# Latent 0 fires on road, latent 1 on sky and on nearly everything; nothing fires on fog.
FREQUENCIES = [0.001, 0.9]


def warned(
    caplog: pytest.LogCaptureFixture, wanted: list[int], max_freq: float, *, is_subset: bool = True
) -> list[str]:
    detections = Detections(1, len(NAMES), 2, Thresholds.absolute())
    detections.add(torch.tensor([[1.0, 0], [0, 1.0], [0, 0]]), torch.tensor([1, 3, 4]))
    stats = SaeStats(torch.zeros(3), 1.0, torch.tensor(FREQUENCIES), torch.ones(2))
    rows = rank_latents(detections, stats, NAMES, max_freq, top_k=1)
    warn_of_no_latent(detections, stats, NAMES, wanted, rows, 0.9, max_freq, is_subset=is_subset)
    return [record.getMessage() for record in caplog.records]


def test_each_class_without_a_latent_is_named_with_its_reason_and_a_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert warned(caplog, [1, 2, 3, 4], 0.01) == [
        "pole has no latent: no patch of the lookup split has the class on at least 0.9 of its "
        "pixels (try a smaller --label-threshold or more --lookup-images).",
        "sky has no latent: only latents fire on it that fire on 0.01 or more of all patches (try "
        "a larger --max-freq).",
        "fog has no latent: no latent fires on its clean patches (try more --lookup-images).",
    ]


def test_more_images_are_no_remedy_where_all_were_looked_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pole, fog = warned(caplog, [2, 4], 0.01, is_subset=False)
    assert pole.endswith("(try a smaller --label-threshold).")
    assert fog.endswith("no latent fires on its clean patches.")


@pytest.mark.parametrize(("wanted", "max_freq"), [([1], 0.01), ([1, 3], 1.0)])
def test_where_all_that_were_asked_for_have_one_nothing_is_said(
    caplog: pytest.LogCaptureFixture, wanted: list[int], max_freq: float
) -> None:
    assert warned(caplog, wanted, max_freq) == []

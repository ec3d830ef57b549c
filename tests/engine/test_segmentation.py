"""Confusion matrices of pixels by hand, and bilinear upsampling against its formula."""

import pytest
import torch
from torch import Tensor

from semseg_cli.engine.segmentation import count_pixels, segmentation, upsampled_classes


def test_a_confusion_matrix_by_hand() -> None:
    #       null  1        2        3 never occurs, but is predicted once
    labels = torch.tensor([0, 1, 1, 1, 2, 2], dtype=torch.uint8)
    predicted = torch.tensor([1, 1, 1, 2, 2, 3])
    matrix = count_pixels(labels, predicted, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
    found = segmentation(matrix)
    assert found.ious == {1: 2 / 3, 2: 1 / 3}
    assert found.absent == (3,)
    assert found.miou == pytest.approx(0.5)
    assert found.accuracy == 3 / 5


def test_matrices_of_parts_add_up() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (100,), generator=draw)
    predicted = torch.randint(1, 5, (100,), generator=draw)
    whole = count_pixels(labels, predicted, 4)
    parts = sum(
        count_pixels(*pair, 4) for pair in zip(labels.split(33), predicted.split(33), strict=True)
    )
    assert torch.equal(whole, torch.as_tensor(parts))
    assert int(whole.sum()) == int((labels > 0).sum())


def test_without_a_labelled_pixel_everything_is_absent() -> None:
    found = segmentation(torch.zeros(2, 2, dtype=torch.int64))
    assert (found.miou, found.accuracy, found.absent) == (0.0, 0.0, (1, 2))


def slow_upsampled(logits_hwc: Tensor, patch: int) -> Tensor:
    """Each pixel between the centres of its four nearest patches; beyond the last centre, flat."""
    n_rows, n_cols, _ = logits_hwc.shape
    found = torch.zeros(n_rows * patch, n_cols * patch, dtype=torch.int64)
    for y in range(n_rows * patch):
        for x in range(n_cols * patch):
            v = min(max((y + 0.5) / patch - 0.5, 0.0), n_rows - 1.0)
            u = min(max((x + 0.5) / patch - 0.5, 0.0), n_cols - 1.0)
            top, left = min(int(v), n_rows - 2), min(int(u), n_cols - 2)
            down, right = v - top, u - left
            logits = (
                (1 - down) * (1 - right) * logits_hwc[top, left]
                + (1 - down) * right * logits_hwc[top, left + 1]
                + down * (1 - right) * logits_hwc[top + 1, left]
                + down * right * logits_hwc[top + 1, left + 1]
            )
            found[y, x] = int(logits[1:].argmax()) + 1
    return found


def test_upsampling_is_bilinear_and_null_never_wins() -> None:
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits[..., 0] = 100.0
    found = upsampled_classes(logits, (3, 2), (12, 8))
    for image, seen in zip(logits, found, strict=True):
        assert torch.equal(seen, slow_upsampled(image.view(3, 2, 5), 4))

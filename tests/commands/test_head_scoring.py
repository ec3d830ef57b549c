"""How the heads of `train-head` are scored and chosen, against slow and obvious versions."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from semseg_cli.commands.train_head.features import PARTS, TrainingPatches, ValidationImages
from semseg_cli.commands.train_head.scoring import score_coarsely, score_heads
from semseg_cli.commands.train_head.sweep import N_FINALISTS, Best, Sweep, train_heads
from semseg_cli.engine.segmentation import Segmentation, segmentation, upsampled_classes

CPU = torch.device("cpu")
GRID, N_CLASSES, D_MODEL = (3, 2), 4, 5
RATES = ((0.3, 0.001), (0.02, 0.1))


def images_of(seed: int, patch: int, n_images: int = 3) -> ValidationImages:
    draw = torch.Generator().manual_seed(seed)
    rows, columns = GRID
    x_btd = torch.randn(n_images, rows * columns, D_MODEL, generator=draw)
    shape = (n_images, rows * patch, columns * patch)
    labels_bhw = torch.randint(N_CLASSES + 1, shape, generator=draw, dtype=torch.uint8)
    return ValidationImages(x_btd, labels_bhw, GRID)


def heads_of(seed: int, n_heads: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    weight_kcd = torch.randn(n_heads, N_CLASSES + 1, D_MODEL, generator=draw)
    return weight_kcd, torch.randn(n_heads, N_CLASSES + 1, generator=draw)


def slowly(weight_cd: Tensor, bias_c: Tensor, images: ValidationImages) -> Segmentation:
    """Pixel by pixel: the class in the middle of the part that it lies in."""
    rows, columns = images.coarse
    found_bij = upsampled_classes(images.x_btd @ weight_cd.T + bias_c, images.grid, images.coarse)
    matrix = torch.zeros(N_CLASSES, N_CLASSES, dtype=torch.int64)
    n_images, height, width = images.labels_bhw.shape
    for b in range(n_images):
        for y in range(height):
            for x in range(width):
                label = int(images.labels_bhw[b, y, x])
                found = int(found_bij[b, y * rows // height, x * columns // width])
                if label:
                    matrix[label - 1, found - 1] += 1
    return segmentation(matrix)


@pytest.mark.parametrize("patch", [2, 6, 7])
def test_the_coarse_score_is_that_of_the_middles_of_parts(patch: int) -> None:
    images = images_of(patch, patch)
    assert images.coarse == (3 * min(patch, PARTS), 2 * min(patch, PARTS))
    weight_kcd, bias_kc = heads_of(1)
    found = score_coarsely(list(weight_kcd), list(bias_kc), images, CPU)
    assert found == [slowly(*head, images) for head in zip(weight_kcd, bias_kc, strict=True)]
    assert len({score.miou for score in found}) == 3


def test_where_each_pixel_is_a_part_the_coarse_score_is_the_whole_one() -> None:
    images = images_of(2, PARTS)
    weight_kcd, bias_kc = heads_of(3)
    whole = score_heads(weight_kcd, bias_kc, images, CPU)
    assert score_coarsely(list(weight_kcd), list(bias_kc), images, CPU) == whole


def test_images_at_once_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    images, (weight_kcd, bias_kc) = images_of(4, 6), heads_of(5)
    whole = score_coarsely(list(weight_kcd), list(bias_kc), images, CPU)
    monkeypatch.setattr("semseg_cli.commands.train_head.scoring.CACHED_LOGITS", 1)
    assert score_coarsely(list(weight_kcd), list(bias_kc), images, CPU) == whole


def by_pixels(weight_cd: Tensor, bias_c: Tensor, images: ValidationImages) -> Segmentation:
    return score_heads(weight_cd[None], bias_c[None], images, CPU)[0]


def learnable(seed: int) -> tuple[TrainingPatches, ValidationImages]:
    """Patches of classes that overlap, and images of the same kind: scores go up and down."""
    draw = torch.Generator().manual_seed(seed)
    means_cd = torch.randn(N_CLASSES + 1, D_MODEL, generator=draw)
    labels_n = torch.randint(1, N_CLASSES + 1, (60,), generator=draw)
    x_nd = means_cd[labels_n] + torch.randn(60, D_MODEL, generator=draw)
    images = images_of(seed, 6, n_images=6)
    modes_bt = torch.randint(1, N_CLASSES + 1, images.x_btd.shape[:2], generator=draw)
    noise_btd = torch.randn(images.x_btd.shape, generator=draw)
    labels_bij = modes_bt.unflatten(1, GRID)
    labels_bhw = labels_bij.repeat_interleave(6, 1).repeat_interleave(6, 2).to(torch.uint8)
    images = replace(images, x_btd=means_cd[modes_bt] + noise_btd, labels_bhw=labels_bhw)
    return TrainingPatches(x_nd, labels_n), images


def snapshots(seed: int, n_epochs: int) -> tuple[Sweep, list[list[tuple[Tensor, Tensor]]]]:
    """A sweep without patience, and every head after each of its epochs."""
    patches, images = learnable(seed)
    sweep = Sweep(RATES, D_MODEL, N_CLASSES, seed, n_epochs)
    kept: list[list[tuple[Tensor, Tensor]]] = []

    def keep(after: Sweep) -> None:
        heads = zip(after.weights, after.biases, strict=True)
        kept.append([(weight.detach().clone(), bias.detach().clone()) for weight, bias in heads])

    train_heads(sweep, patches, images, n_epochs, 16, keep)
    return sweep, kept


@pytest.mark.parametrize("seed", range(4))
def test_the_best_epochs_are_kept_and_the_best_of_them_by_pixels_is_chosen(seed: int) -> None:
    _, images = learnable(seed)
    sweep, kept = snapshots(seed, 8)
    judged = sweep.judged(images)
    for k in range(len(RATES)):
        coarse = [score_coarsely([w], [b], images, CPU)[0].miou for w, b in (e[k] for e in kept)]
        order = sorted(range(8), key=lambda i: -coarse[i])[:N_FINALISTS]  # ties: the earlier
        assert [one.epoch - 1 for one in sweep.finalists[k]] == order
        whole = {i: by_pixels(*kept[i][k], images) for i in order}
        best = max(sorted(order), key=lambda i: whole[i].miou)
        found = judged[k]
        assert isinstance(found, Best)
        assert (found.epoch - 1, found.score) == (best, whole[best])
        assert torch.equal(found.weight_cd, kept[best][k][0])
        assert torch.equal(found.bias_c, kept[best][k][1])
    assert any(len({one.epoch for one in kept_k}) == N_FINALISTS for kept_k in sweep.finalists)


def test_a_head_without_a_finite_weight_has_no_finalist() -> None:
    patches, images = learnable(0)
    sweep = Sweep(RATES, D_MODEL, N_CLASSES, 0, 5)
    sweep.weights[0].data.fill_(torch.inf)
    train_heads(sweep, patches, images, 2, 16)
    first, second = sweep.judged(images)
    assert first is None
    assert second is not None
    assert Sweep(RATES, D_MODEL, N_CLASSES, 0, 5).judged(images) == [None, None]

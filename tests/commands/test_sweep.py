"""Heads trained together end as they would alone, and as a plain loop over torch would have it."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from semseg_cli.commands.train_head.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from semseg_cli.commands.train_head.features import TrainingPatches, ValidationImages
from semseg_cli.commands.train_head.scoring import score_heads
from semseg_cli.commands.train_head.sweep import Finalist, Sweep, train_heads
from semseg_cli.engine.edits import generator
from semseg_cli.errors import SemsegError
from semseg_cli.runs.folder import RunFolder

D, N_CLASSES = 8, 3
RATES = ((0.003, 0.0), (0.03, 0.1), (0.1, 1.0))


def clusters(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around one centre per label 0..3, close enough to be confused."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, N_CLASSES + 1, (n,), generator=draw)
    centres = torch.randn(N_CLASSES + 1, D, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 0.7 * torch.randn(n, D, generator=draw), labels


@pytest.fixture(scope="module")
def patches() -> TrainingPatches:
    return TrainingPatches(*clusters(200, 0))


@pytest.fixture(scope="module")
def images() -> ValidationImages:
    """Six images of 2 x 2 patches of 3 pixels each."""
    x, labels = clusters(24, 1)
    cells = labels.view(6, 2, 2)
    pixels = cells.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    return ValidationImages(x.view(6, 4, D), pixels, (2, 2))


def new_sweep(rates: tuple[tuple[float, float], ...] = RATES, patience: int = 100) -> Sweep:
    return Sweep(rates, D, N_CLASSES, seed=5, patience=patience)


def trained(sweep: Sweep, patches: TrainingPatches, images: ValidationImages, n: int) -> Sweep:
    train_heads(sweep, patches, images, n, n_per_step=64)
    return sweep


@pytest.mark.parametrize("patience", [2, 100])
def test_heads_trained_together_equal_heads_trained_alone(
    patience: int, patches: TrainingPatches, images: ValidationImages
) -> None:
    together = trained(new_sweep(patience=patience), patches, images, 12)
    for k, rates in enumerate(RATES):
        alone = trained(new_sweep((rates,), patience), patches, images, 12)
        assert together.finalists[k]
        for ours, theirs in zip(together.finalists[k], alone.finalists[0], strict=True):
            assert (ours.epoch, ours.miou) == (theirs.epoch, theirs.miou)
            torch.testing.assert_close(ours.weight_cd, theirs.weight_cd, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ours.bias_c, theirs.bias_c, rtol=1e-4, atol=1e-5)


def test_training_is_that_of_a_plain_linear_layer(
    patches: TrainingPatches, images: ValidationImages
) -> None:
    (lr, decay), n_epochs = RATES[1], 3
    sweep = new_sweep()
    layer = nn.Linear(D, N_CLASSES + 1)
    layer.weight.data, layer.bias.data = sweep.weights[1].clone(), sweep.biases[1].clone()
    optimiser = torch.optim.AdamW(layer.parameters(), lr=lr, weight_decay=decay)
    for epoch in range(1, n_epochs + 1):
        order = torch.randperm(200, generator=generator(5, "order of patches", epoch))
        for rows in order.split(64):
            logits = layer(patches.x_nd[rows])
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, patches.labels_n[rows]).backward()
            optimiser.step()
    trained(sweep, patches, images, n_epochs)
    torch.testing.assert_close(sweep.weights[1].data, layer.weight.data, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sweep.biases[1].data, layer.bias.data, rtol=1e-4, atol=1e-5)


def test_all_heads_begin_alike_and_the_seed_decides() -> None:
    first, other = new_sweep(), Sweep(RATES, D, N_CLASSES, seed=6, patience=1)
    assert torch.equal(first.weights[0], first.weights[2])
    assert not torch.equal(first.weights[0], other.weights[0])


def test_scores_do_not_depend_on_how_many_images_are_upsampled_at_once(
    images: ValidationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = new_sweep()
    weights = torch.stack([w + i for i, w in enumerate(sweep.weights)]).detach()
    biases = torch.stack(list(sweep.biases)).detach()
    whole = score_heads(weights, biases, images, torch.device("cpu"))
    monkeypatch.setattr("semseg_cli.commands.train_head.scoring.CACHED_LOGITS", 1)
    assert score_heads(weights, biases, images, torch.device("cpu")) == whole


def test_a_head_out_of_patience_keeps_its_best_epoch(
    patches: TrainingPatches, images: ValidationImages
) -> None:
    sweep = trained(new_sweep(patience=2), patches, images, 60)
    assert sweep.live == []
    assert sweep.epoch < 60
    for kept, best in zip(sweep.finalists, sweep.judged(images), strict=True):
        assert kept[0].epoch <= sweep.epoch - 2
        assert best is not None
        again = score_heads(best.weight_cd[None], best.bias_c[None], images, torch.device("cpu"))
        assert again == [best.score]


def test_going_on_equals_never_having_stopped(
    patches: TrainingPatches, images: ValidationImages, tmp_path: Path
) -> None:
    whole = trained(new_sweep(patience=3), patches, images, 9)
    half = trained(new_sweep(patience=3), patches, images, 4)
    save_checkpoint(RunFolder(tmp_path), half, {"--lr": [1.0]})
    resumed = new_sweep(patience=3)
    load_checkpoint(tmp_path, resumed, {"--lr": [1.0]})
    trained(resumed, patches, images, 9)
    assert resumed.epoch == whole.epoch
    for name, tensor in whole.to_tensors().items():
        assert torch.equal(tensor, resumed.to_tensors()[name]), name
    assert _kept(whole) == _kept(resumed)


def _kept(sweep: Sweep) -> list[list[tuple[int, float]]]:
    def told(one: Finalist) -> tuple[int, float]:
        return one.epoch, one.miou

    return [list(map(told, kept)) for kept in sweep.finalists]


def test_a_head_that_overflows_leaves_the_others_alone(
    patches: TrainingPatches, images: ValidationImages, tmp_path: Path
) -> None:
    rates = (RATES[1], (10.0, 100.0))  # each step multiplies the second one's weights by -999
    sweep, alone = new_sweep(rates), new_sweep(rates[:1])
    for one in (sweep, alone):
        train_heads(one, patches, images, 3, n_per_step=10)
    assert sweep.live == [0]
    assert sweep.judged(images)[1] is None
    torch.testing.assert_close(sweep.weights[0].data, alone.weights[0].data)
    save_checkpoint(RunFolder(tmp_path), sweep, {})
    load_checkpoint(tmp_path, restored := new_sweep(rates), {})
    assert (restored.live, restored.finalists[1]) == ([0], [])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    sweep = new_sweep()
    save_checkpoint(RunFolder(tmp_path), sweep, {"--seed": 1, "--lr": [0.1]})
    with pytest.raises(SemsegError, match="was trained with another --seed: take --config"):
        load_checkpoint(tmp_path, sweep, {"--seed": 2, "--lr": [0.1]})


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_checkpoint_is_told(damage: str, tmp_path: Path) -> None:
    save_checkpoint(RunFolder(tmp_path), sweep := new_sweep(), {})
    path = tmp_path / CHECKPOINT
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    with pytest.raises(SemsegError, match="holds no training to go on with"):
        load_checkpoint(tmp_path, sweep, {})


def test_a_checkpoint_is_safetensors_with_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    save_checkpoint(RunFolder(tmp_path), new_sweep(), {"--seed": 1})
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        _checksum, _, text = file.metadata()["state"].partition(" ")
    state = json.loads(text)
    assert state == {"epoch": 0, "finalists": [[]] * 3, "settings": {"--seed": 1}}

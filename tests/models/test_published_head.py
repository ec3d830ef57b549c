"""DINOv2's linear heads: folded, they are the batch norm and the convolution in evaluation."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semseg_cli.errors import SemsegError
from semseg_cli.models.head import load_head, require_one_block
from semseg_cli.models.published_head import fold_batch_norm

D = 6


class LinearHead(nn.Module):
    """mmsegmentation's names of what DINOv2 trains."""

    def __init__(self, n_classes: int, width: int = D) -> None:
        super().__init__()
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(width, n_classes, 1)
        self.decode_head.bn = nn.SyncBatchNorm(width)
        draw = torch.Generator().manual_seed(0)
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():  # the count of batches is not
                drawn = torch.rand(tensor.shape, generator=draw)
                tensor.copy_(drawn + (0.1 if "var" in name else -0.3))
        self.eval()

    def forward(self, x_nd: Tensor) -> Tensor:
        """Logits [n, C] of patch features."""
        image = x_nd.T[None, :, :, None]
        norm: Any = self.decode_head.bn
        found = nn.functional.batch_norm(
            image, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5
        )
        convolution: Any = self.decode_head.conv_seg
        return convolution(found)[0, :, :, 0].T


def write(folder: Path, head: nn.Module, **more: Any) -> Path:
    """As mmcv saves a checkpoint: with objects of its own beside the state dict."""
    path = folder / "dinov2_vits14_ade20k_linear_head.pth"
    meta = {"env": SimpleNamespace(python="3.9"), "epoch": 40000}
    torch.save({"meta": meta, "state_dict": head.state_dict(), **more}, path)
    return path


X = torch.randn(40, D, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("n_classes", [150, 21, 3])
@pytest.mark.parametrize("background", [False, True])
def test_its_logits_are_those_of_the_original(
    tmp_path: Path, n_classes: int, background: bool
) -> None:
    original = LinearHead(n_classes)
    head = load_head(write(tmp_path, original), background)
    expected, found = original(X), head(X)
    if n_classes == 21 and not background:
        assert head.n_classes == 20
        torch.testing.assert_close(found, expected)
        return
    assert head.n_classes == n_classes
    torch.testing.assert_close(found[:, 1:], expected)
    assert bool((found[:, 0] < expected.amin(dim=1)).all())
    assert head.digest


@torch.no_grad()
def test_a_head_of_dinov3s_training_code_is_read(tmp_path: Path) -> None:
    original = LinearHead(4)
    names = {"decode_head.conv_seg": "segmentation_model.1.conv",
             "decode_head.bn": "segmentation_model.1.batchnorm_layer"}  # fmt: skip
    state = {
        f"{new}.{name.rpartition('.')[2]}": tensor
        for name, tensor in original.state_dict().items()
        for old, new in names.items()
        if name.startswith(old)
    }
    torch.save({"model": state, "optimizer": {}}, tmp_path / "model_final.pth")
    torch.testing.assert_close(load_head(tmp_path / "model_final.pth")(X)[:, 1:], original(X))


def test_a_batch_norm_is_folded_by_hand() -> None:
    """scale = 6 / sqrt(4 + 1e-5) = 3; weight 2 * 3; bias 1 + 2 * (5 - 1 * 3)."""
    one = torch.ones(1)
    weight, bias = fold_batch_norm(torch.tensor([[2.0]]), one, 6 * one, 5 * one, one, 4 * one)
    torch.testing.assert_close(weight, torch.tensor([[6.0]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(bias, torch.tensor([5.0]), rtol=1e-5, atol=0)


def test_a_head_of_four_blocks_gets_a_sentence(tmp_path: Path) -> None:
    head = load_head(write(tmp_path, LinearHead(3, 4 * D)))
    with pytest.raises(SemsegError, match=r"4 blocks of the ViT together .* train-head"):
        require_one_block(head, D)
    require_one_block(head, 4 * D)
    require_one_block(head, D + 1)  # another width: told elsewhere


def without(head: nn.Module, name: str) -> dict[str, Tensor]:
    return {key: value for key, value in head.state_dict().items() if key != name}


HEAD = LinearHead(3)
BAD: dict[str, tuple[Any, str]] = {
    "no mean": (without(HEAD, "decode_head.bn.running_mean"), "lacks decode_head.bn.running_mean"),
    "another width": (
        {**HEAD.state_dict(), "decode_head.bn.bias": torch.zeros(D + 1)}, "do not fit",
    ),
    "a real convolution": (
        {**HEAD.state_dict(), "decode_head.conv_seg.weight": torch.zeros(3, D, 3, 3)},
        "kernel of shape",
    ),
    "NaN": ({**HEAD.state_dict(), "decode_head.bn.bias": torch.full((D,), torch.nan)}, "NaN"),
    "a backbone": ({"blocks.0.norm1.weight": torch.zeros(D)}, "The first line of"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_published_head_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    state, sentence = BAD[name]
    path = write(tmp_path, HEAD, state_dict=state)
    with pytest.raises(SemsegError, match=sentence):
        load_head(path)

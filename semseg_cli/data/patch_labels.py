"""Labels of pixels to labels of patches."""

import torch
from jaxtyping import Bool, Float64, Int, Int64, Integer
from torch import Tensor

from semseg_cli.typed import typed


@typed
def patch_pixels(labels_hw: Integer[Tensor, "h w"], patch_size_px: int) -> Integer[Tensor, "t px"]:
    """The pixels of each patch, patches in row-major order; a rest at the end is in no patch."""
    n_rows, n_cols = (side // patch_size_px for side in labels_hw.shape)
    covered = labels_hw[: n_rows * patch_size_px, : n_cols * patch_size_px]
    grid = covered.reshape(n_rows, patch_size_px, n_cols, patch_size_px)
    return grid.permute(0, 2, 1, 3).reshape(n_rows * n_cols, patch_size_px**2)


@typed
def patch_modes(
    pixels_tp: Integer[Tensor, "t px"],
) -> tuple[Int64[Tensor, " t"], Float64[Tensor, " t"]]:
    """The most frequent label of each patch (ties go to the smallest), and its share of pixels.

    A patch without pixels has label 0 and share 0.
    """
    n_patches, n_pixels = pixels_tp.shape
    if not pixels_tp.numel():
        return torch.zeros(n_patches, dtype=torch.int64), torch.zeros(n_patches).double()
    least, most = int(pixels_tp.min()), int(pixels_tp.max())
    n_labels = most - least + 1
    cells = pixels_tp.long() - least + n_labels * torch.arange(n_patches)[:, None]
    counts = torch.bincount(cells.reshape(-1), minlength=n_labels * n_patches)
    counts = counts.reshape(n_patches, n_labels)
    # numpy's argmax is documented to take the first maximum, torch's is not.
    modes = torch.from_numpy(counts.numpy().argmax(axis=1)) + least
    return modes, counts.max(dim=1).values.double() / n_pixels


@typed
def get_patch_mask(
    pixel_labels_NP: Integer[Tensor, "n patch_px"], threshold: float | int
) -> Bool[Tensor, " n"]:
    """True where at least `threshold` of a patch's pixels share one label."""
    return patch_modes(pixel_labels_NP)[1] >= threshold


@typed
def get_patch_i(
    i: Int[Tensor, "batch width height"], n_patches_per_img: int
) -> Int[Tensor, "batch width height"]:
    """Image index at each cell of the patch grid -> global patch index (int64), row-major.

    Raises:
        ValueError: the grid is not the square one of `n_patches_per_img` patches.
    """
    _, width, height = i.shape
    if width != height or width * height != n_patches_per_img:
        raise ValueError(
            f"the grid is {width} x {height}: expected a square one of {n_patches_per_img} patches"
        )
    cells = torch.arange(n_patches_per_img, device=i.device).view(width, height)
    return i.long() * n_patches_per_img + cells

"""Which patches lie inside an area of one class, and which lie near others."""

from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from semseg_cli.typed import typed

NEAR = 2  # patches, in rows and columns


@typed
def is_interior(classes_bt: Int[Tensor, "b t"], grid: tuple[int, int]) -> Bool[Tensor, "b t"]:
    """Which patches have the class of all eight neighbours (fewer at the image's edge)."""
    ids = classes_bt.float().unflatten(1, grid)[:, None]
    largest, smallest = (sign * max_pool2d(sign * ids, 3, 1, 1) for sign in (1, -1))
    return (largest == smallest).flatten(1)


@typed
def is_near(is_own_prt: Bool[Tensor, "p r t"], grid: tuple[int, int]) -> Bool[Tensor, "p r t"]:
    """Which patches have one of those marked within `NEAR` rows and columns, or are marked."""
    marked = is_own_prt.float().unflatten(2, grid)
    return max_pool2d(marked, 2 * NEAR + 1, 1, NEAR).flatten(2) > 0

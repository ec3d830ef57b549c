"""Which images without a class it is run on: what other change is measured on, beside all with it.

Images in which the class is predicted are all run. The others hardly differ from each other, and
are most: a random sample stands for them, each for as many as there are per sampled one
(Horvitz-Thompson).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from semseg_cli.engine.edits import generator
from semseg_cli.typed import typed

Asked = int | Literal["auto", "all"]
LEAST = 100  # images without the class
SPARED = 30  # images at least, or all are run


def n_sampled(n_with: int, n_without: int, asked: Asked) -> int:
    """How many of the images without a class are run.

    auto: as many as have the class, and at least 100; all where that spares fewer than 30.
    """
    if isinstance(asked, int):
        return min(asked, n_without)
    n = max(n_with, LEAST)
    return n_without if asked == "all" or n_without - n < SPARED else n


def may_sample(n_images: int, asked: Asked) -> bool:
    """Whether any class could be run on fewer than all of so many images."""
    return n_sampled(0, n_images, asked) < n_images


@typed
def image_weights(
    n_own_bc: Int64[Tensor, "n_images c"],
    indices_b: Sequence[int],
    asked: Asked,
    seed: int,
) -> Float64[Tensor, "n_images c"]:
    """How many images each one stands for, class by class; 0 where the class is not run on it.

    Every image has a random number for every class, which belongs to the seed and to its place in
    the split; the smallest are taken. So the sample is the same for all methods, a larger one
    contains a smaller, and a subset of the images has what it can of it.
    """
    weight_bc = (n_own_bc > 0).double()
    places = torch.tensor(list(indices_b))
    for column in range(weight_bc.shape[1]):
        without = torch.nonzero(n_own_bc[:, column] == 0).flatten()
        n = n_sampled(len(n_own_bc) - len(without), len(without), asked)
        source = generator(seed, "other-images", column + 1)
        drawn = torch.rand(int(places.max()) + 1, generator=source, dtype=torch.float64)
        order = torch.argsort(drawn[places[without]], stable=True)
        weight_bc[without[order[:n]], column] = len(without) / max(n, 1)
    return weight_bc

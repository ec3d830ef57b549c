"""What is added to each patch of the residual stream, as numbers and as random draws.

An edit has one row per class (or one row for all classes); a row is a group of members, usually a
single one. Row k adds to a patch

    sum over g of (value_kg - f_kg) * direction_kg

where f is what the row reads from the patch. With the reconstruction error added back and a linear
decoder this is exactly encode, set the latents to `value`, decode: rank one per latent, no decode.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.typed import typed

MAX_SCALE = 10.0
ALL_CLASSES = 0  # the class id of an edit's only row, where one edit serves all classes


@typed
def map_range(
    x: float | int | Float[Tensor, "*batch"],
    domain: tuple[float | int, float | int],
    range: tuple[float | int, float | int],
) -> float | Float[Tensor, "*batch"]:
    """The linear map of [a, b] onto [c, d].

    Raises:
        ValueError: a value lies outside the domain (NaN does), or the domain is a point or endless.
    """
    (a, b), (c, d) = domain, range
    # A number is compared as it is: as a float32 tensor it might round into the domain.
    values = x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64)
    outside = values[~((values >= a) & (values <= b))]
    if outside.numel():
        raise ValueError(f"{float(outside.flatten()[0])} lies outside the domain [{a}, {b}]")
    if not 0 < b - a < math.inf:
        raise ValueError(f"the domain [{a}, {b}] has no length: expected a < b, both finite")
    if isinstance(x, Tensor):  # in float64, so that nothing overflows or cancels on the way
        return (c + (x.double() - a) * (d - c) / (b - a)).to(x.dtype)
    return c + (x - a) * (d - c) / (b - a)


@typed
def unscaled(
    x: float | int | Float[Tensor, "*batch"], max_obs: float | int
) -> float | Float[Tensor, "*batch"]:
    """A scale in units of the latent's maximum observed activation, as an activation.

    [-10, 10] goes onto [-10 max_obs, 10 max_obs].

    Raises:
        ValueError: a scale lies outside [-10, 10].
    """
    domain = (-MAX_SCALE, MAX_SCALE)
    return map_range(x, domain, (-MAX_SCALE * max_obs, MAX_SCALE * max_obs))


def generator(seed: int, purpose: str, identity: int, draw: int = 0) -> torch.Generator:
    """A source of random numbers that belongs to (seed, purpose, image index or class id, draw)."""
    parts = [seed, purpose, identity, *([draw] if draw else [])]
    key = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)


@typed
def random_unit_vectors(
    seed: int, indices_b: Int64[Tensor, " b"], d_model: int, draw: int = 0
) -> Float[Tensor, "b d"]:
    """One uniformly random direction of length 1 per image index."""
    drawn = [
        torch.randn(d_model, generator=generator(seed, "random-vector", index, draw))
        for index in indices_b.tolist()
    ]
    return torch.nn.functional.normalize(torch.stack(drawn), dim=1)


@dataclass(frozen=True, eq=False)
class Latents:
    """Reads the activations of an autoencoder's latents; -1 fills up groups of unequal size."""

    ids_kg: Int64[Tensor, "k g"]
    sae: SparseAutoencoder


@dataclass(frozen=True)
class Projections:
    """Reads, per row, how far the residual lies beyond a point along a unit direction."""

    units_kd: Float[Tensor, "k d"]
    offsets_k: Float[Tensor, " k"]

    @typed
    def read(self, patches_btd: Float[Tensor, "b t d"]) -> Float[Tensor, "b t k 1"]:
        """Signed distances, in raw residual units."""
        return (patches_btd @ self.units_kd.T - self.offsets_k)[..., None]


@dataclass(frozen=True)
class Edit:
    """One draw of one method at one scale.

    `reads` says what f is (None: 0). `directions_kgd` are in raw residual units (None: the edit is
    `values_kg` long). `towards` turns the finished edit, keeping its length: into one unit vector
    per row, or ("random") one per image. `along` names each row's latents where the directions are
    those of others than `reads` says. `spares_own`: in the class protocol, patches predicted as the
    row's class stay as they are.
    """

    method: str
    scale: float
    class_ids: tuple[int, ...]
    values_kg: Float[Tensor, "k g"]
    reads: Latents | Projections | None
    directions_kgd: Float[Tensor, "k g d"] | None
    towards: Float[Tensor, "k d"] | str | None = None
    seed: int = 0
    draw: int = 0
    along: tuple[tuple[int, ...], ...] | None = None
    spares_own: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether one edit serves all classes."""
        return self.class_ids == (ALL_CLASSES,)

    @property
    def latents_by_class(self) -> dict[int, list[int]]:
        """Class id -> the latents whose directions it takes; empty where they are no latents'."""
        groups: Sequence[Sequence[int]]
        if self.along is not None:
            groups = self.along
        elif isinstance(self.reads, Latents) and self.towards is None:
            groups = self.reads.ids_kg.tolist()
        else:
            return {}
        rows = zip(self.class_ids, groups, strict=True)
        return {class_id: [latent for latent in group if latent >= 0] for class_id, group in rows}

    @typed
    def units(self, indices_b: Int64[Tensor, " b"], d_model: int) -> Float[Tensor, "b k d"] | None:
        """The unit vector that each row's edit is turned into at each image; None for no turn."""
        if self.towards is None:
            return None
        if isinstance(self.towards, str):
            units_bd = random_unit_vectors(self.seed, indices_b, d_model, self.draw)
            return units_bd.to(self.values_kg)[:, None].expand(-1, len(self.class_ids), -1)
        return self.towards.expand(len(indices_b), -1, -1)

    @typed
    def lengths(
        self, coefs_ptg: Float[Tensor, "p t g"], directions: Float[Tensor, "p #t g d"] | None
    ) -> Float[Tensor, "p t g2"]:
        """How far each patch moves along its directions, or along the vector it is turned into."""
        if self.towards is None:
            return coefs_ptg
        if directions is None:
            return coefs_ptg.sum(dim=2, keepdim=True)
        sign = 1.0 if self.scale > 0 else -1.0
        delta_ptd = sum_along(coefs_ptg, directions)
        return sign * delta_ptd.norm(dim=2, keepdim=True)

    @typed
    def delta(
        self,
        coefs_ptg: Float[Tensor, "p t g"],
        directions: Float[Tensor, "p #t g d"] | None,
        units: Float[Tensor, "p #t d"] | None,
    ) -> Float[Tensor, "p t d"]:
        """What is added to each patch, from its coefficients, directions and turn."""
        lengths_ptg = self.lengths(coefs_ptg, directions)
        if units is not None:
            return lengths_ptg * units
        assert directions is not None, "an edit without directions has a turn"
        return sum_along(lengths_ptg, directions)


@dataclass(frozen=True)
class Intervention:
    """One method at one scale: its independent draws, whose counts are added up."""

    draws: tuple[Edit, ...]

    @property
    def first(self) -> Edit:
        """The first draw; method, scale and classes are the same in all."""
        return self.draws[0]


@typed
def sum_along(
    lengths_ptg: Float[Tensor, "p t g"], vectors: Float[Tensor, "p #t g v"]
) -> Float[Tensor, "p t v"]:
    """The sum of each patch's vectors, each as often as its length says.

    One vector is multiplied, not put through a matrix product: the same numbers, and on one H100
    such products took a quarter of a run of the class protocol in bfloat16.
    """
    if vectors.shape[2] == 1:
        return lengths_ptg * vectors[:, :, 0]
    return (lengths_ptg[:, :, None] @ vectors)[:, :, 0]


def group_rows(groups: Sequence[Sequence[int]], pad: int) -> Int64[Tensor, "k g"]:
    """Rows of unequal length as one tensor, filled up with `pad`."""
    width = max(map(len, groups), default=1)
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in groups]).long()

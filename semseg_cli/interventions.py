"""From a method's settings to edits: what is added to each patch of the residual stream.

An edit has one row per class (or one row for all classes). Row k adds

    (value_k - f_k) * direction_k

to a patch whose latent has activation f_k. With the reconstruction error added back and a linear
decoder this is exactly encode, set the latent to `value`, decode: rank one, no decode.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from semseg_cli.config import AutoFeat, Method, RandFeat, RandVec
from semseg_cli.errors import SemsegError
from semseg_cli.pipeline import Pipeline
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
        ValueError: a value lies outside the domain (NaN does).
    """
    (a, b), (c, d) = domain, range
    values = torch.as_tensor(x)
    outside = values[~((values >= a) & (values <= b))]
    if outside.numel():
        raise ValueError(f"{float(outside.flatten()[0])} lies outside the domain [{a}, {b}]")
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


def generator(seed: int, purpose: str, identity: int) -> torch.Generator:
    """A source of random numbers that belongs to (seed, purpose, image index or class id)."""
    key = hashlib.blake2b(f"{seed}/{purpose}/{identity}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)


@typed
def random_unit_vectors(
    seed: int, indices_b: Int64[Tensor, " b"], d_model: int
) -> Float[Tensor, "b d"]:
    """One uniformly random direction of length 1 per image index."""
    drawn = [
        torch.randn(d_model, generator=generator(seed, "random-vector", index))
        for index in indices_b.tolist()
    ]
    return torch.nn.functional.normalize(torch.stack(drawn), dim=1)


@dataclass(frozen=True)
class Edit:
    """One method at one scale.

    `latents_k` are the latents whose activation is read (None: the coefficient is `values_k`).
    The direction is `directions_kd`, or `lengths_k` times a random unit vector per image.
    """

    method: str
    scale: float
    class_ids: tuple[int, ...]
    values_k: Float[Tensor, " k"]
    latents_k: Int64[Tensor, " k"] | None
    directions_kd: Float[Tensor, "k d"] | None
    lengths_k: Float[Tensor, " k"]
    seed: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether one edit serves all classes."""
        return self.class_ids == (ALL_CLASSES,)

    @typed
    def coefficients(self, acts_btk: Float[Tensor, "b t k"]) -> Float[Tensor, "b t k"]:
        """How far each patch moves along each row's direction, given the rows' activations."""
        if self.latents_k is None:
            return self.values_k.to(acts_btk).expand_as(acts_btk)
        return self.values_k.to(acts_btk) - acts_btk

    @typed
    def directions(self, indices_b: Int64[Tensor, " b"], d_model: int) -> Float[Tensor, "b k d"]:
        """The direction of each row at each image, in raw residual units."""
        if self.directions_kd is not None:
            return self.directions_kd.expand(len(indices_b), -1, -1)
        units_bd = random_unit_vectors(self.seed, indices_b, d_model).to(self.lengths_k)
        return units_bd[:, None] * self.lengths_k[:, None]


def set_latents(pipeline: Pipeline, method: str, scale: float, latents: Mapping[int, int]) -> Edit:
    """Each class's latent set to `scale` times its maximum observed activation.

    Args:
        pipeline: whose autoencoder and maxima to use.
        method: the method's name in reports.
        scale: in [-10, 10].
        latents: class id -> latent.
    """
    return set_rows(pipeline, method, scale, sorted(latents.items()))


def set_rows(
    pipeline: Pipeline, method: str, scale: float, rows: Sequence[tuple[int, int]]
) -> Edit:
    """The same for any (class id, latent) rows; a class may come several times."""
    class_ids = tuple(class_id for class_id, _ in rows)
    latents_k = torch.tensor([latent for _, latent in rows], dtype=torch.int64)
    maxima = pipeline.latent_stats.top_values[latents_k].tolist()
    values_k = torch.tensor([float(unscaled(scale, maximum)) for maximum in maxima])
    directions_kd = pipeline.sae.directions(latents_k)
    return Edit(
        method=method,
        scale=scale,
        class_ids=class_ids,
        values_k=values_k.to(pipeline.device),
        latents_k=latents_k.to(pipeline.device),
        directions_kd=directions_kd,
        lengths_k=directions_kd.norm(dim=1),
    )


def auto_feat(pipeline: Pipeline, scale: float, latents: Mapping[int, int]) -> Edit:
    """Each class's looked-up latent."""
    return set_latents(pipeline, AutoFeat.name, scale, latents)


def rand_feat(pipeline: Pipeline, scale: float, class_ids: Sequence[int], seed: int) -> Edit:
    """One random live latent per class; live latents fired on the statistics split.

    Raises:
        SemsegError: no latent is live.
    """
    live = torch.nonzero(
        (pipeline.latent_stats.sparsity > 0) & (pipeline.latent_stats.top_values > 0)
    ).flatten()
    if not len(live):
        raise SemsegError("No latent of the SAE ever fired: check --sparsity and --top-values.")
    drawn = {
        class_id: int(
            live[torch.randint(len(live), (), generator=generator(seed, RandFeat.name, class_id))]
        )
        for class_id in class_ids
    }
    return set_latents(pipeline, RandFeat.name, scale, drawn)


def rand_vec(pipeline: Pipeline, scale: float, seed: int) -> Edit:
    """`scale` times one random unit vector per image, on every patch; one edit for all classes."""
    one = torch.ones(1, device=pipeline.device)
    return Edit(RandVec.name, scale, (ALL_CLASSES,), scale * one, None, None, one, seed)


def rand_vec_matched(
    pipeline: Pipeline, scale: float, latents: Mapping[int, int], seed: int
) -> Edit:
    """A random direction per image, moved as far on each patch as the automatic edit would be."""
    auto = auto_feat(pipeline, scale, latents)
    return Edit(
        method=RandVec.name,
        scale=scale,
        class_ids=auto.class_ids,
        values_k=auto.values_k,
        latents_k=auto.latents_k,
        directions_kd=None,
        lengths_k=auto.lengths_k,
        seed=seed,
    )


def needs_statistics(method: Method) -> bool:
    """Whether a method reads latents at all; a plain random vector does not."""
    return not (isinstance(method, RandVec) and method.match == "none")


def needs_latents(method: Method) -> TypeGuard[AutoFeat | RandVec]:
    """Whether a method's edits depend on each class's looked-up latent."""
    return needs_statistics(method) and not isinstance(method, RandFeat)


def make_edits(
    method: Method,
    pipeline: Pipeline,
    latents: Mapping[float, Mapping[int, int]],
    class_ids: Sequence[int],
    seed: int,
) -> list[Edit]:
    """One edit per scale. The one place that knows what each method does.

    Args:
        method: its settings.
        pipeline: the frozen parts.
        latents: scale -> class id -> latent, for the methods that need them.
        class_ids: the classes to intervene on.
        seed: of the random draws.
    """
    wanted = set(class_ids)
    edits = []
    for scale in method.scale:
        own = {c: latent for c, latent in latents.get(scale, {}).items() if c in wanted}
        match method:
            case AutoFeat():
                edits.append(auto_feat(pipeline, scale, own))
            case RandFeat():
                edits.append(rand_feat(pipeline, scale, class_ids, seed))
            case RandVec(match="norm"):
                edits.append(rand_vec_matched(pipeline, scale, own, seed))
            case RandVec():
                edits.append(rand_vec(pipeline, scale, seed))
    return edits

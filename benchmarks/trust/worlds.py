"""Simulated counts with a known truth: images that differ in size and in how easily they change.

An image's rate follows a beta distribution with a mean and an intra-class correlation (ICC): 0 is
patches that know nothing of each other, near 1 images that change as a whole or not at all. Columns
are replicates, or the classes of one.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import stats

IMAGE_PATCHES = 256
_Z = np.linspace(-4.5, 4.5, 4001)


def patches(
    draw: np.random.Generator, shape: tuple[int, ...], median: float = 15, sigma: float = 1.2
) -> Int64[np.ndarray, "..."]:
    """Patches of a class in images that have it: 1 to 200, log-normal."""
    found = np.round(median * np.exp(sigma * draw.normal(size=shape)))
    return np.clip(found, 1, 200).astype(np.int64)


@cache
def _quantiles(mean: float, icc: float) -> Float64[np.ndarray, " z"]:
    strength = (1 - icc) / icc
    found = stats.beta.ppf(stats.norm.cdf(_Z), mean * strength, (1 - mean) * strength)
    return np.nan_to_num(found, nan=0.0)


def image_rates(
    z: Float64[np.ndarray, "..."], mean: float, icc: float
) -> Float64[np.ndarray, "..."]:
    """Rates of images, rising with a standard normal `z`, so that rates can be correlated."""
    if icc == 0:
        return np.full(z.shape, mean)
    return np.interp(z, _Z, _quantiles(mean, icc))


def like(
    draw: np.random.Generator, z: Float64[np.ndarray, "..."], rho: float
) -> Float64[np.ndarray, "..."]:
    """Standard normals that correlate with others by `rho`."""
    return rho * z + np.sqrt(1 - rho**2) * draw.normal(size=z.shape)


def one_rate(
    draw: np.random.Generator, n_images: int, n_replicates: int, mean: float, icc: float
) -> tuple[Int64[np.ndarray, "b r"], Int64[np.ndarray, "b r"]]:
    """Changed and total patches of one class in images that all have it."""
    total = patches(draw, (n_images, n_replicates))
    rate = image_rates(draw.normal(size=total.shape), mean, icc)
    return draw.binomial(total, rate), total


def changed_in(
    draw: np.random.Generator,
    total: Int64[np.ndarray, "..."],
    z: Float64[np.ndarray, "..."],
    mean: float,
    icc: float,
) -> Int64[np.ndarray, "..."]:
    """How many patches of each image change."""
    return draw.binomial(total, image_rates(z, mean, icc))


LEVELS = {
    "high": (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.999),
    "low": (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.001),
    "mixed": (0.001, 0.02, 0.1, 0.3, 0.6, 0.9, 0.98, 0.999),
}
OTHER = 0.1  # other change, as a share of target change


def classes(
    draw: np.random.Generator, n_images: int, n_classes: int, level: str, icc: float = 0.5
) -> tuple[Int64[np.ndarray, "b c 4"], Float64[np.ndarray, " c"], float]:
    """Counts of one run, every class's true rate, and the true pooled rate.

    How often a class is there is log-uniform; the classes of an image share half of its effect.
    """
    least = max(0.03, 1.5 / n_images)
    presence_c = np.exp(draw.uniform(np.log(least), 0, n_classes))
    shape = n_images, n_classes
    orig = patches(draw, shape) * (draw.random(shape) < presence_c)
    rate_c = draw.permutation(np.resize(LEVELS[level], n_classes))
    z = like(draw, np.repeat(draw.normal(size=(n_images, 1)), n_classes, axis=1), 0.5)
    other_z, other = like(draw, z, 0.5), IMAGE_PATCHES - orig
    changed, rest = np.empty_like(orig), np.empty_like(orig)
    for rate in set(rate_c.tolist()):
        of = rate_c == rate
        changed[:, of] = changed_in(draw, orig[:, of], z[:, of], rate, icc)
        rest[:, of] = changed_in(draw, other[:, of], other_z[:, of], OTHER * rate, icc)
    counts = np.stack([orig, changed, other, rest], axis=-1)
    return counts, rate_c, float(presence_c @ rate_c / presence_c.sum())


def pair(
    draw: np.random.Generator,
    n_images: int,
    n_replicates: int,
    rates: tuple[float, float],
    iccs: tuple[float, float],
    n_classes: int = 1,
) -> tuple[Int64[np.ndarray, "r b c 4"], Int64[np.ndarray, "r b c 4"]]:
    """Counts of two runs on the same images, which share part of what makes an image change."""
    shape = n_replicates, n_images, n_classes
    presence_c = np.maximum(0.9 * 0.8 ** np.arange(n_classes), 3 / n_images)
    is_there = (draw.random(shape) < presence_c) | (n_classes == 1)
    is_there[:, :3] = True
    orig = patches(draw, shape) * is_there
    shared = like(draw, np.repeat(draw.normal(size=(*shape[:2], 1)), n_classes, axis=2), 0.5)
    one, two = (
        _of_pair(draw, orig, shared, rate, icc) for rate, icc in zip(rates, iccs, strict=True)
    )
    return one, two


def _of_pair(
    draw: np.random.Generator,
    orig: Int64[np.ndarray, "r b c"],
    shared: Float64[np.ndarray, "r b c"],
    rate: float,
    icc: float,
) -> Int64[np.ndarray, "r b c 4"]:
    own, other = like(draw, shared, 0.77), IMAGE_PATCHES - orig
    changed = changed_in(draw, orig, own, rate, icc)
    rest = changed_in(draw, other, like(draw, own, 0.5), 0.05, icc)
    return np.stack([orig, changed, other, rest], axis=-1)


def control(
    draw: np.random.Generator, n_images: int, n_classes: int, n_draws: int, kind: str
) -> tuple[Int64[np.ndarray, "b c 4"], Int64[np.ndarray, "d b c 4"]]:
    """Counts of a method, and of each draw of a control whose effects are as skewed as latents'.

    kind: `draw`, the method is a draw, too; `expectation`, it has the draws' mean effect on every
    class.
    """
    shape = n_images, n_classes
    presence_c = np.exp(draw.uniform(np.log(0.08), 0, n_classes))
    orig = patches(draw, shape) * (draw.random(shape) < presence_c)
    orig[:3] = np.maximum(orig[:3], 1)
    level_c = np.exp(0.4 * draw.normal(size=(n_classes, 1)))
    lots = n_classes, n_draws + 1
    effect = np.minimum(draw.beta(0.25, 2.25, lots) * level_c, 0.6)
    if kind != "draw":
        effect[:, 0] = np.minimum(draw.beta(0.25, 2.25, (1, 4000)) * level_c, 0.6).mean(axis=1)
    fragile = draw.uniform(0.5, 1.5, (n_images, 1, 1))  # up to 0.9: the mean stays exact
    mean = np.broadcast_to(effect * fragile, (n_images, n_classes, n_draws + 1))
    mean, strength = np.maximum(mean, 1e-9), (1 - 0.3) / 0.3
    rate = draw.beta(mean * strength, (1 - mean) * strength)
    other = IMAGE_PATCHES - orig
    changed = draw.binomial(orig[..., None], rate)
    rest = draw.binomial(other[..., None], 0.3 * rate)
    wide = np.broadcast_to(orig[..., None], changed.shape)
    counts = np.stack([wide, changed, IMAGE_PATCHES - wide, rest], axis=-1).transpose(2, 0, 1, 3)
    return counts[0], counts[1:]


def groups_of(
    draw: np.random.Generator, n_groups: int, n_replicates: int, mean: float
) -> tuple[Int64[np.ndarray, "b r"], Int64[np.ndarray, "b r"], list[int]]:
    """Counts of images in groups of five that share an effect, and each image's group."""
    shared = np.repeat(draw.normal(size=(n_groups, n_replicates)), 5, axis=0)
    total = patches(draw, shared.shape)
    changed = changed_in(draw, total, like(draw, shared, 0.7), mean, 0.5)
    return changed, total, np.repeat(np.arange(n_groups), 5).tolist()


def covers(
    lo: Float64[np.ndarray, "..."], hi: Float64[np.ndarray, "..."], truth: float
) -> Bool[np.ndarray, "..."]:
    """Whether intervals hold the truth."""
    return (lo <= truth + 1e-9) & (truth - 1e-9 <= hi)

"""Periodic noise and colour, the raw material of the demo textures.

Scenes must have the same pixels on every machine. Basic float32 arithmetic, `floor` and `sqrt`
are exact by IEEE 754, but `sin`, `exp`, `power` and long sums depend on the vector unit. So they
are used here only, in float64, and their results are rounded to a coarse grid before anything is
drawn with them.
"""

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_TILE_SIZE = 512
_TILE_STEPS = 256.0
_N_SINE_STEPS = 1024


@dataclasses.dataclass(frozen=True)
class NoiseTiles:
    """Three periodic noise images of unit variance, from grainy to cloudy."""

    fine: Floats
    mid: Floats
    soft: Floats


@functools.lru_cache(maxsize=2)
def make_tiles(seed: int) -> NoiseTiles:
    """Noise tiles of one world; every scene of the world cuts its own windows out of them."""
    rng = np.random.default_rng([seed, 991])
    return NoiseTiles(*(_make_tile(rng, falloff) for falloff in (0.45, 1.0, 1.7)))


def _make_tile(rng: np.random.Generator, falloff: float) -> Floats:
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE_SIZE, _TILE_SIZE)))
    frequency = np.sqrt(
        np.fft.fftfreq(_TILE_SIZE)[:, None] ** 2 + np.fft.rfftfreq(_TILE_SIZE)[None, :] ** 2
    )
    frequency[0, 0] = 1.0
    tile = np.fft.irfft2(spectrum / frequency**falloff, s=(_TILE_SIZE, _TILE_SIZE))
    tile = (tile - tile.mean()) / tile.std()
    return (np.round(tile * _TILE_STEPS) / _TILE_STEPS).astype(np.float32)


def sample(tile: Floats, across: Floats, down: Floats, rng: np.random.Generator) -> Floats:
    """Noise at the given coordinates (nearest cell), in a randomly placed window of the tile."""
    shift_down, shift_across = (int(shift) for shift in rng.integers(0, _TILE_SIZE, 2))
    mask = _TILE_SIZE - 1
    rows = (down.astype(np.int32) + shift_down) & mask
    columns = (across.astype(np.int32) + shift_across) & mask
    return tile.ravel().take(rows * _TILE_SIZE + columns)


def profile(tile: Floats, n: int, step: float, rng: np.random.Generator) -> Floats:
    """One row of noise, `n` values `step` cells apart: the outline of a hill or a shore."""
    row, start = (int(value) for value in rng.integers(0, _TILE_SIZE, 2))
    columns = (np.arange(n) * step).astype(np.int32) + start
    return tile[row, columns & (_TILE_SIZE - 1)]


_angles = np.arange(_N_SINE_STEPS) * (2 * math.pi / _N_SINE_STEPS)
_SINE_TABLE = (np.round(np.sin(_angles) * 65536) / 65536).astype(np.float32)


def sine(turns: Floats) -> Floats:
    """Sine of an angle given in full turns, from a table (exact on every machine)."""
    steps = np.floor(turns * np.float32(_N_SINE_STEPS)).astype(np.int32)
    return _SINE_TABLE.take(steps & (_N_SINE_STEPS - 1))


def hsv(hue: float, saturation: float, value: float) -> Floats:
    """RGB colour in 0..1; the hue wraps around at 1."""
    channels = ((offset + hue * 6) % 6 for offset in (5.0, 3.0, 1.0))
    return np.array(
        [value - value * saturation * min(max(min(k, 4 - k), 0.0), 1.0) for k in channels],
        np.float32,
    )

"""A picture and its mask, painted together, region by region."""

import numpy as np
from numpy.typing import NDArray

from semseg_cli.demo.noise import Floats, NoiseTiles, hsv, profile, sample
from semseg_cli.demo.textures import CLASS_NAMES, TEXTURES, Rng, Surface

Mask = NDArray[np.bool_]

_CLASS_IDS = {name: i for i, name in enumerate(CLASS_NAMES, start=1)}
_ASPECTS = (0.75, 1.0, 1.0, 1.33, 1.33, 1.5)


class Canvas:
    """State of one scene while it is painted; what is painted later lies in front.

    `x` and `y` are pixel coordinates, as a row and a column so that masks broadcast cheaply;
    `width` and `height` are the natural units of the compositions.
    """

    def __init__(self, rng: Rng, tiles: NoiseTiles) -> None:
        self.rng = rng
        self.tiles = tiles
        self.height = int(rng.integers(200, 300))
        self.width = int(self.height * _ASPECTS[rng.integers(len(_ASPECTS))])
        self.image: Floats = np.zeros((self.height, self.width, 3), np.float32)
        self.labels = np.zeros((self.height, self.width), np.uint8)
        self.y: Floats = np.arange(self.height, dtype=np.float32)[:, None]
        self.x: Floats = np.arange(self.width, dtype=np.float32)[None, :]
        self._zoom = 256 / min(self.height, self.width) * rng.uniform(0.8, 1.25)
        self._vanishing_x = rng.uniform(0.2, 0.8) * self.width

    def paint(self, name: str, region: Mask, horizon: float | None = None) -> None:
        """Fill a region with a class's texture.

        `horizon` (a pixel row) is where the ground plane of the texture ends; without one the
        plane begins at the top of the region.
        """
        region = np.broadcast_to(region, self.labels.shape)
        rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
        if not len(rows):
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        surface = self._surface(box, float(rows[0]) if horizon is None else horizon)
        inside = region[box]
        self.image[box][inside] = TEXTURES[name](surface, self.rng)[inside]
        self.labels[box][inside] = _CLASS_IDS[name]

    def _surface(self, box: tuple[slice, slice], horizon: float) -> Surface:
        y, x = (
            a * np.float32(self._zoom)
            for a in np.broadcast_arrays(self.y[box[0]], self.x[:, box[1]])
        )
        depth = np.maximum(y - horizon * self._zoom, 0) / 256 + self.rng.uniform(0.12, 0.25)
        ground_x = (x - self._vanishing_x * self._zoom) / depth * 0.45
        return Surface(x, y, ground_x, 60 / depth, self.tiles)

    def paint_other(self, region: Mask) -> None:
        """Fill a region with a plain colour that belongs to no class (label 0)."""
        region = np.broadcast_to(region, self.labels.shape)
        rng = self.rng
        colour = hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.1, 0.95))
        light = 1 + rng.uniform(-0.3, 0.3) * (self.x / self.width - 0.5)
        shaded = np.broadcast_to((colour * light[..., None]), self.image.shape)
        self.image[region] = shaded[region]
        self.labels[region] = 0

    def everywhere(self) -> Mask:
        return np.ones_like(self.labels, bool)

    def below(self, outline: float | Floats) -> Mask:
        """Everything below a row, or below one row per column."""
        return self.y >= np.asarray(outline, np.float32)

    def box(self, left: float, right: float, top: float, bottom: float) -> Mask:
        return (self.x > left) & (self.x < right) & (self.y > top) & (self.y < bottom)

    def blob(self, y: float, x: float, radius_y: float, radius_x: float, rough: float) -> Mask:
        """An ellipse with a wavy edge."""
        down, across = (self.y - y) / radius_y, (self.x - x) / radius_x
        distance = np.sqrt(down * down + across * across)
        if rough:
            distance = distance + rough * 0.5 * self.noise(1.5)
        return distance < 1

    def trapezium(
        self, middle: float, top: float, bottom: float, flare: float, narrow: float
    ) -> Mask:
        """A strip of the ground seen in perspective; `top` and `bottom` are pixel rows."""
        down = (self.y - top) / self.height
        half_width = self.width * (narrow + flare * down)
        return (self.y > top) & (self.y < bottom) & (np.abs(self.x - middle) < half_width)

    def noise(self, scale: float) -> Floats:
        """Soft noise over the whole picture."""
        y, x = np.broadcast_arrays(self.y, self.x)
        return sample(self.tiles.soft, x * scale, y * scale, self.rng)

    def outline(self, row: float, waviness: float) -> Floats:
        """A wavy, slightly tilted line across the picture, one row per column."""
        waves = profile(self.tiles.soft, self.width, self.rng.uniform(0.3, 1.2), self.rng)
        tilt = self.rng.uniform(-0.06, 0.06)
        return row + waviness * waves + tilt * (self.x[0] - self.width / 2)

    def ridge(self, row: float, height: float) -> Floats:
        """The outline of a mountain that stands on a row."""
        rng = self.rng
        peak, half_width = rng.uniform(0, self.width), self.width * rng.uniform(0.3, 0.9)
        slope = np.clip(1 - np.abs(self.x[0] - peak) / half_width, 0, 1)
        return row - height * slope + 4 * profile(self.tiles.mid, self.width, 1.0, rng)


def distance(canvas: Canvas, y: float, x: float) -> Floats:
    """Distance in pixels from a point to every pixel."""
    down, across = canvas.y - y, canvas.x - x
    return np.sqrt(down * down + across * across)

"""Scenes of the demo world: eight compositions, foreground objects, light."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from semseg_cli.demo.canvas import Canvas, distance
from semseg_cli.demo.noise import make_tiles
from semseg_cli.demo.textures import CLASS_NAMES

SPLITS = ("training", "validation")


@dataclasses.dataclass(frozen=True)
class Scene:
    """An RGB picture, its mask (0 is no class, 1.. the classes) and its JPEG quality."""

    image: Image.Image
    labels: Image.Image
    quality: int


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` (from 0) of a split; depends on the three arguments only."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = Canvas(rng, make_tiles(seed))
    compose = _COMPOSITIONS[int(rng.choice(len(_COMPOSITIONS), p=_SHARES))]
    compose(canvas)
    _add_objects(canvas)
    _light(canvas)
    image = Image.fromarray(_to_bytes(canvas))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    return Scene(image, Image.fromarray(canvas.labels), int(rng.integers(75, 93)))


def _chance(canvas: Canvas, share: float) -> bool:
    return canvas.rng.random() < share


def _pick(canvas: Canvas, *names: str) -> str:
    return names[int(canvas.rng.integers(len(names)))]


def _horizon(canvas: Canvas) -> float:
    return canvas.rng.uniform(0.3, 0.62) * canvas.height


# Parts of compositions


def _add_trees(canvas: Canvas, horizon: float) -> None:
    rng = canvas.rng
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(0.08, 0.28) * canvas.height
        middle = horizon - radius * rng.uniform(0.2, 0.9)
        width = radius * rng.uniform(0.7, 1.3)
        x = rng.uniform(0, canvas.width)
        canvas.paint("tree", canvas.blob(middle, x, radius, width, rough=0.5))


def _add_mountain(canvas: Canvas, horizon: float) -> None:
    rng, height = canvas.rng, canvas.height
    ridge = canvas.ridge(horizon, rng.uniform(0.1, 0.45) * height)
    mountain = canvas.below(ridge) & (canvas.y < horizon + 3)
    canvas.paint("rock", mountain)
    if _chance(canvas, 0.4):
        snow_line = float(ridge.min()) + rng.uniform(0.08, 0.2) * height
        canvas.paint("snow", mountain & (canvas.y < snow_line))


def _add_house(canvas: Canvas, horizon: float) -> None:
    rng = canvas.rng
    width, height = rng.uniform(0.3, 0.8) * canvas.width, rng.uniform(0.25, 0.5) * canvas.height
    left, top = rng.uniform(-0.1, 0.6) * canvas.width, horizon - height
    wall = "brick wall" if _chance(canvas, 0.75) else "painted wall"
    canvas.paint(wall, canvas.box(left, left + width, top, horizon + 2))
    _add_roof(canvas, left + width / 2, top, width)
    for _ in range(rng.integers(0, 4)):
        window_x, window_y = (
            left + rng.uniform(0.05, 0.8) * width,
            top + rng.uniform(0.1, 0.6) * height,
        )
        window = (window_x, window_x + 0.14 * width, window_y, window_y + 0.25 * height)
        canvas.paint_other(canvas.box(*window))


def _add_roof(canvas: Canvas, middle: float, eaves: float, width: float) -> None:
    height = canvas.rng.uniform(0.12, 0.28) * canvas.height
    down = (canvas.y - (eaves - height)) / height
    half_width = 0.56 * width * (0.35 + 0.65 * down)
    canvas.paint("roof", (np.abs(canvas.x - middle) < half_width) & (down > 0) & (down < 1.02))


# Compositions


def _beach(canvas: Canvas) -> None:
    horizon = _horizon(canvas)
    canvas.paint("sky", canvas.everywhere())
    canvas.paint("sea", canvas.below(horizon), horizon)
    if _chance(canvas, 0.3):
        _add_mountain(canvas, horizon)
    shore = canvas.outline(horizon + canvas.rng.uniform(0.1, 0.3) * canvas.height, 4)
    canvas.paint("sand", canvas.below(shore), horizon)


def _meadow(canvas: Canvas) -> None:
    horizon = _horizon(canvas)
    canvas.paint("sky", canvas.everywhere())
    if _chance(canvas, 0.4):
        _add_mountain(canvas, horizon)
    canvas.paint("grass", canvas.below(canvas.outline(horizon, 5)), horizon)
    if _chance(canvas, 0.75):
        _add_trees(canvas, horizon + 5)
    if _chance(canvas, 0.5):
        _add_winding_road(canvas, horizon)


def _add_winding_road(canvas: Canvas, horizon: float) -> None:
    rng, width = canvas.rng, canvas.width
    down = (canvas.y - horizon) / canvas.height
    middle = rng.uniform(0.2, 0.8) * width + rng.uniform(-0.5, 0.5) * width * down
    half_width = width * (0.02 + rng.uniform(0.3, 0.8) * down)
    canvas.paint("road", (down > 0.02) & (np.abs(canvas.x - middle) < half_width), horizon)


def _street(canvas: Canvas) -> None:
    rng, height = canvas.rng, canvas.height
    horizon = rng.uniform(0.5, 0.72) * height
    canvas.paint("sky", canvas.everywhere())
    if _chance(canvas, 0.4):
        _add_trees(canvas, horizon)
    for _ in range(2 if _chance(canvas, 0.4) else 1):
        _add_house(canvas, horizon)
    ground = "road" if _chance(canvas, 0.75) else "tile floor"
    canvas.paint(ground, canvas.below(horizon), horizon - 0.15 * height)
    if _chance(canvas, 0.5):
        verge = canvas.below(horizon) & (canvas.y < horizon + rng.uniform(0.05, 0.16) * height)
        canvas.paint("grass", verge, horizon)
    if _chance(canvas, 0.3):
        _add_trees(canvas, horizon + 8)


def _winter(canvas: Canvas) -> None:
    rng, horizon = canvas.rng, _horizon(canvas)
    canvas.paint("sky", canvas.everywhere())
    if _chance(canvas, 0.7):
        _add_mountain(canvas, horizon)
    canvas.paint("snow", canvas.below(canvas.outline(horizon, 6)), horizon)
    if _chance(canvas, 0.6):
        _add_trees(canvas, horizon + 5)
    if _chance(canvas, 0.3):
        y, x = rng.uniform(0.6, 0.95) * canvas.height, rng.uniform(0, canvas.width)
        boulder = canvas.blob(y, x, 0.15 * canvas.height, 0.2 * canvas.width, rough=0.25)
        canvas.paint("rock", boulder)


def _room(canvas: Canvas) -> None:
    rng, height = canvas.rng, canvas.height
    canvas.paint("brick wall" if _chance(canvas, 0.2) else "painted wall", canvas.everywhere())
    skirting = rng.uniform(0.5, 0.75) * height
    floor = _pick(canvas, "tile floor", "tile floor", "wood floor", "wood floor", "rug")
    plane = skirting - 0.15 * height
    canvas.paint(floor, canvas.below(canvas.outline(skirting, 0)), plane)
    if _chance(canvas, 0.7):
        _add_curtains(canvas, skirting)
    if floor != "rug" and _chance(canvas, 0.55):
        near = skirting + rng.uniform(0.2, 0.45) * height
        far = skirting + rng.uniform(0.02, 0.08) * height
        middle = rng.uniform(0.3, 0.7) * canvas.width
        canvas.paint("rug", canvas.trapezium(middle, far, near, flare=0.5, narrow=0.15), plane)


def _add_curtains(canvas: Canvas, skirting: float) -> None:
    rng = canvas.rng
    for _ in range(rng.integers(1, 3)):
        left = rng.uniform(-0.1, 0.8) * canvas.width
        right = left + rng.uniform(0.12, 0.4) * canvas.width
        top = rng.uniform(0, 0.1) * canvas.height
        bottom = skirting + rng.uniform(-0.2, 0.1) * canvas.height
        canvas.paint("curtain", canvas.box(left, right, top, bottom))


def _pool_side(canvas: Canvas) -> None:
    rng, height, horizon = canvas.rng, canvas.height, _horizon(canvas)
    canvas.paint("sky", canvas.everywhere())
    (_add_house if _chance(canvas, 0.5) else _add_trees)(canvas, horizon)
    plane = horizon - 0.1 * height
    surroundings = _pick(canvas, "tile floor", "wood floor", "grass")
    canvas.paint(surroundings, canvas.below(horizon), plane)
    far = horizon + rng.uniform(0.05, 0.12) * height
    near = horizon + rng.uniform(0.3, 0.7) * height
    middle = rng.uniform(0.3, 0.7) * canvas.width
    canvas.paint("pool", canvas.trapezium(middle, far, near, flare=0.6, narrow=0.2), plane)


def _lake(canvas: Canvas) -> None:
    horizon = _horizon(canvas)
    canvas.paint("sky", canvas.everywhere())
    _add_mountain(canvas, horizon)
    canvas.paint("sea", canvas.below(horizon), horizon)
    shore = canvas.outline(horizon + canvas.rng.uniform(0.2, 0.4) * canvas.height, 8)
    canvas.paint(_pick(canvas, "grass", "rock", "sand", "snow"), canvas.below(shore), horizon)


def _collage(canvas: Canvas) -> None:
    """Unrelated surfaces side by side, so that no class can be guessed from its neighbours."""
    rng = canvas.rng
    n_regions = int(rng.integers(2, 5))
    classes = rng.choice(len(CLASS_NAMES), n_regions, replace=False)
    waves = 8 * canvas.noise(1.0)
    centres = rng.uniform(0, 1, (n_regions, 2)) * (canvas.height, canvas.width)
    distances = np.stack([distance(canvas, float(y), float(x)) + waves for y, x in centres])
    nearest = distances.argmin(0)
    for region, class_index in enumerate(classes):
        canvas.paint(CLASS_NAMES[class_index], nearest == region)


_COMPOSITIONS: tuple[Callable[[Canvas], None], ...] = (
    _beach, _meadow, _street, _winter, _room, _pool_side, _lake, _collage,
)  # fmt: skip
_SHARES = (0.14, 0.14, 0.14, 0.12, 0.18, 0.1, 0.08, 0.1)


# What happens to every composition


def _add_objects(canvas: Canvas) -> None:
    """Discs and boxes of no class in the foreground."""
    rng = canvas.rng
    n_objects = int(rng.integers(0, 3)) if _chance(canvas, 0.6) else 0
    for _ in range(n_objects):
        radius = rng.uniform(0.04, 0.13) * canvas.height
        y, x = rng.uniform(0.4, 0.95) * canvas.height, rng.uniform(0, canvas.width)
        half_width = radius * rng.uniform(0.3, 1)
        disc = _chance(canvas, 0.5)
        tall = canvas.box(x - half_width, x + half_width, y - 1.5 * radius, y + 1.5 * radius)
        canvas.paint_other(distance(canvas, y, x) < radius if disc else tall)


def _light(canvas: Canvas) -> None:
    """Exposure, colour temperature, slanted light, cast shadows, contrast and sensor noise."""
    rng = canvas.rng
    light = 1 + rng.uniform(-0.2, 0.2) * (canvas.x / canvas.width - 0.5)
    light = light + rng.uniform(-0.12, 0.12) * (canvas.y / canvas.height - 0.5)
    if _chance(canvas, 0.35):
        shadow = np.clip(1.5 * canvas.noise(0.6) - 0.55, 0, 1)
        light = light * (1 - rng.uniform(0.15, 0.4) * shadow)
    warmth = rng.uniform(-0.07, 0.07)
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32) * rng.uniform(0.75, 1.2)
    image = np.clip(canvas.image * light[..., None] * tint, 0, 1)
    # A parabola instead of a gamma curve: `power` is not the same on every machine.
    image += rng.uniform(-0.3, 0.3) * image * (1 - image)
    # The sum of two uniform draws is nearly as good as a normal one, and exact everywhere.
    uniform = rng.random((2, *canvas.labels.shape), np.float32)
    noise = (uniform[0] + uniform[1] - 1) * 2.45
    canvas.image = image + rng.uniform(0.005, 0.035) * noise[..., None]


def _to_bytes(canvas: Canvas) -> NDArray[np.uint8]:
    return (np.clip(canvas.image, 0, 1) * 255 + 0.5).astype(np.uint8)

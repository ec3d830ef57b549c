"""The sixteen textures of the demo world, one function each.

A texture gets a `Surface` and a random generator and returns the colours of the whole surface.
Colours overlap between classes on purpose (sand and painted wall, sea and sky, road and rock):
what tells them apart is mostly structure, as in photographs.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from semseg_cli.demo.noise import Floats, NoiseTiles, hsv, sample, sine

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Surface:
    """Coordinates of the pixels to paint; the unit is 1/256 of the image's short side.

    `x` and `y` run in the image plane; `ground_x` and `ground_y` on a plane which recedes to the
    horizon, so that floors and roads show perspective.
    """

    x: Floats
    y: Floats
    ground_x: Floats
    ground_y: Floats
    tiles: NoiseTiles

    def grain(self, rng: Rng, scale: float = 2.0) -> Floats:
        """Fine noise in the image plane."""
        return sample(self.tiles.fine, self.x * scale, self.y * scale, rng)

    def clouds(self, rng: Rng, scale: float = 1.0) -> Floats:
        """Soft noise on the ground plane."""
        return sample(self.tiles.soft, self.ground_x * scale, self.ground_y * scale, rng)


Texture = Callable[[Surface, Rng], Floats]


def _shade(colour: Floats, brightness: Floats) -> Floats:
    return colour * brightness[..., None]


def _cell_noise(surface: Surface, columns: Floats, rows: Floats, rng: Rng) -> Floats:
    """One random value per brick, tile or plank."""
    return sample(surface.tiles.fine, columns * 7, rows * 13, rng)


def sky(surface: Surface, rng: Rng) -> Floats:
    if rng.random() < 0.75:
        top = hsv(rng.uniform(0.55, 0.63), rng.uniform(0.3, 0.75), rng.uniform(0.6, 0.95))
    else:
        top = hsv(rng.uniform(0.5, 0.7), rng.uniform(0.02, 0.12), rng.uniform(0.55, 0.85))
    haze = np.array([0.585, 0.598, 0.6175], np.float32)
    sunset = np.array([0.95, 0.75, 0.55], np.float32)
    bottom = top * np.float32(0.35) + haze if rng.random() < 0.8 else sunset
    height = max(40.0, float(np.ptp(surface.y)))
    depth = np.clip((surface.y - surface.y.min()) / height, 0, 1)[..., None]
    noise = sample(surface.tiles.soft, surface.x * 0.8, surface.y * 1.8, rng)
    cloud = (noise - rng.uniform(0, 1.4)) * rng.uniform(0.5, 1.2)
    cloud = np.clip(cloud, 0, 1)[..., None]
    return (top * (1 - depth) + bottom * depth) * (1 - cloud) + rng.uniform(0.8, 0.98) * cloud


def sea(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.5, 0.62), rng.uniform(0.45, 0.85), rng.uniform(0.25, 0.6))
    swell = sample(surface.tiles.mid, surface.ground_x * 0.25, surface.ground_y * 1.3, rng)
    ripple = sample(surface.tiles.fine, surface.x * 0.5, surface.y * 2, rng)
    waves = swell + 0.5 * ripple
    foam = np.clip(waves - rng.uniform(1.2, 2.2), 0, 1) * 0.5
    return _shade(base, 1 + 0.22 * waves) + foam[..., None]


def sand(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.08, 0.13), rng.uniform(0.2, 0.45), rng.uniform(0.65, 0.95))
    noise = 0.05 * surface.grain(rng, 1.7) + 0.05 * surface.clouds(rng)
    ripple = sine(surface.ground_y / rng.uniform(5, 12) + 0.32 * surface.clouds(rng))
    return _shade(base, 1 + noise + rng.uniform(0, 0.06) * ripple)


def grass(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.2, 0.33), rng.uniform(0.4, 0.75), rng.uniform(0.35, 0.7))
    blades = sample(surface.tiles.fine, surface.x * 2.2, surface.y * 0.7, rng)
    patches = surface.clouds(rng)
    colour = _shade(base, 1 + 0.25 * blades + 0.1 * patches)
    colour[..., 0] *= 1 + 0.12 * patches
    return colour


def brick_wall(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0, 0.06), rng.uniform(0.35, 0.7), rng.uniform(0.4, 0.75))
    if rng.random() < 0.15:
        base = hsv(rng.uniform(0.08, 0.12), rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.9))
    height = rng.uniform(8, 20)
    width = height * rng.uniform(2, 2.8)
    y = surface.y + rng.uniform(-0.25, 0.25) * surface.x
    rows = np.floor(y / height)
    x = surface.x + (rows % 2) * (width / 2)
    columns = np.floor(x / width)
    noise = 0.13 * _cell_noise(surface, columns, rows, rng) + 0.08 * surface.grain(rng, 1.5)
    colour = _shade(base, 1 + noise)
    joint = 0.14 * height
    colour[(y - rows * height < joint) | (x - columns * width < joint)] = rng.uniform(0.55, 0.85)
    return colour


def tree(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.22, 0.4), rng.uniform(0.35, 0.75), rng.uniform(0.2, 0.45))
    if rng.random() < 0.12:
        base = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.65))
    leaves = sample(surface.tiles.mid, surface.x * 2, surface.y * 2, rng)
    depth = np.sqrt(np.abs(surface.grain(rng, 1.2)))
    leaves = leaves + 0.6 * np.sign(leaves) * depth
    return _shade(base, np.clip(1 + 0.45 * leaves, 0.15, 2.6))


def road(surface: Surface, rng: Rng) -> Floats:
    grey = rng.uniform(0.22, 0.5)
    base = np.array([grey, grey, grey * rng.uniform(0.95, 1.08)], np.float32)
    colour = _shade(base, 1 + 0.12 * surface.grain(rng) + 0.05 * surface.clouds(rng))
    lane, phase = rng.uniform(30, 90), rng.uniform(0, 100)
    on_line = np.abs((surface.ground_x + phase) % lane - lane / 2) < 2
    on_dash = (surface.ground_y + phase) % 40 < rng.uniform(12, 30)
    colour[on_line & on_dash] = rng.uniform(0.75, 0.92)
    return colour


def snow(surface: Surface, rng: Rng) -> Floats:
    base = np.array([0.88, 0.91, 0.96], np.float32) * rng.uniform(0.88, 1.03)
    noise = 0.045 * surface.clouds(rng, 0.8) + 0.015 * surface.grain(rng)
    tint = np.array([1.3, 1.1, 0.8], np.float32)
    return base * (1 + noise[..., None] * tint)


def tile_floor(surface: Surface, rng: Rng) -> Floats:
    pitch, angle = rng.uniform(14, 34), rng.uniform(-0.8, 0.8)
    cos, sin = math.cos(angle), math.sin(angle)
    across = surface.ground_x * cos + surface.ground_y * sin
    down = surface.ground_y * cos - surface.ground_x * sin
    columns, rows = np.floor(across / pitch), np.floor(down / pitch)
    light = hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.7, 0.95))
    dark = light * rng.uniform(0.3, 0.75)
    checker = ((columns + rows) % 2)[..., None]
    noise = sample(surface.tiles.mid, surface.x, surface.y, rng)
    colour = _shade(light * checker + dark * (1 - checker), 1 + 0.03 * noise)
    joint = 0.07 * pitch
    in_joint = (across - columns * pitch < joint) | (down - rows * pitch < joint)
    colour[in_joint] = rng.uniform(0.2, 0.5)
    return colour


def wood_floor(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.7), rng.uniform(0.35, 0.75))
    width = rng.uniform(9, 18)
    across, along = surface.ground_x, surface.ground_y
    if rng.random() >= 0.6:
        across, along = along, across
    planks = np.floor(across / width)
    boards = np.floor((along + planks * 37.7) / (width * 6))
    tone = _cell_noise(surface, planks, boards, rng)
    veins = sample(surface.tiles.mid, across * 6, along * 0.6, rng)
    colour = _shade(base, 1 + 0.12 * tone + 0.13 * veins)
    colour[across - planks * width < 0.07 * width] *= 0.45
    return colour


def curtain(surface: Surface, rng: Rng) -> Floats:
    hue = rng.uniform(0.78, 1.0) if rng.random() < 0.8 else rng.random()
    base = hsv(hue, rng.uniform(0.3, 0.75), rng.uniform(0.45, 0.95))
    sway = sample(surface.tiles.soft, surface.x * 0.4, surface.y * 0.15, rng)
    folds = sine(surface.x / rng.uniform(12, 26) + 0.127 * sway + 0.0016 * surface.y)
    return _shade(base, 0.78 + 0.24 * folds + 0.03 * surface.grain(rng))


def painted_wall(surface: Surface, rng: Rng) -> Floats:
    hue = rng.uniform(0.06, 0.15) if rng.random() < 2 / 3 else rng.uniform(0.28, 0.42)
    base = hsv(hue, rng.uniform(0.08, 0.32), rng.uniform(0.6, 0.95))
    slope_x, slope_y = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)
    light = 1 + slope_x * (surface.x / 128 - 1) + slope_y * (surface.y / 128 - 1)
    stains = sample(surface.tiles.soft, surface.x, surface.y, rng)
    return _shade(base, light + 0.012 * surface.grain(rng) + 0.02 * stains)


def rock(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.04, 0.12), rng.uniform(0.05, 0.25), rng.uniform(0.34, 0.55))
    across = surface.x + rng.uniform(-0.6, 0.6) * surface.y
    cracks = np.abs(sample(surface.tiles.mid, across, surface.y * 1.5, rng))
    relief = 1.1 - cracks + 0.3 * surface.grain(rng, 1.5)
    tone = sample(surface.tiles.soft, surface.x * 1.5, surface.y * 1.5, rng)
    return _shade(base, np.clip(1 + 0.38 * relief + 0.12 * tone, 0.15, 2))


def roof(surface: Surface, rng: Rng) -> Floats:
    hue = rng.uniform(0, 0.06) if rng.random() < 0.5 else rng.uniform(0.55, 0.65)
    base = hsv(hue, rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.6))
    height = rng.uniform(7, 13)
    width = height * rng.uniform(0.8, 1.3)
    rows = np.floor(surface.y / height)
    x = surface.x + (rows % 2) * (width / 2)
    columns = np.floor(x / width)
    down = surface.y / height - rows
    from_middle = x / width - columns - 0.5
    tone = 0.1 * _cell_noise(surface, columns, rows, rng)
    brightness = 0.75 + 0.5 * down * (1 - 1.6 * from_middle * from_middle) + tone
    brightness[down < 0.16] *= 0.5
    return _shade(base, brightness)


def rug(surface: Surface, rng: Rng) -> Floats:
    hue = (0.62, 0.0, 0.3)[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
    shifts = (0.0, 0.45 * rng.uniform(0.8, 1), 0.12 * rng.uniform(0.8, 1))
    palette = np.stack(
        [hsv(hue + shift, rng.uniform(0.4, 0.85), rng.uniform(0.3, 0.9)) for shift in shifts]
    )
    pitch = rng.uniform(16, 36)
    diamond = np.abs((surface.ground_x / pitch) % 1 - 0.5)
    diamond = diamond + np.abs((surface.ground_y / pitch) % 1 - 0.5)
    rings = np.floor(diamond * 5).astype(np.int32) % 3
    return _shade(palette[rings], 1 + 0.1 * surface.grain(rng))


def pool(surface: Surface, rng: Rng) -> Floats:
    base = hsv(rng.uniform(0.47, 0.54), rng.uniform(0.4, 0.75), rng.uniform(0.7, 0.95))
    waves = surface.clouds(rng, 1.0)
    noise = sample(surface.tiles.mid, surface.ground_x * 0.9, surface.ground_y * 0.9, rng)
    sharpness = rng.uniform(5, 11)
    caustics = 1 / (1 + sharpness * np.abs(noise))
    brightness = 0.8 + 0.06 * noise + 0.02 * waves
    return _shade(base, brightness) + 0.4 * caustics[..., None]


# The order gives the class ids, from 1. Changing it changes every mask and every weight.
TEXTURES: dict[str, Texture] = {
    "sky": sky,
    "sea": sea,
    "sand": sand,
    "grass": grass,
    "brick wall": brick_wall,
    "tree": tree,
    "road": road,
    "snow": snow,
    "tile floor": tile_floor,
    "wood floor": wood_floor,
    "curtain": curtain,
    "painted wall": painted_wall,
    "rock": rock,
    "roof": roof,
    "rug": rug,
    "pool": pool,
}
CLASS_NAMES: tuple[str, ...] = tuple(TEXTURES)

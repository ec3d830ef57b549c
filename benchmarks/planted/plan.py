"""What a planted world holds: factors, classes that show and read them, latents for them.

A patch is a sum of factors, each as strong as it is there. The network takes evidence for a class
from the factors that the class reads, and the class with most evidence wins; without any it is
ground. A latent reads one factor (or a mixture) and writes one (or a mixture). Roles follow:

- driver: the latent writes what the class reads, and no other class does.
- companion: it stands for a factor that goes along with the class, and that no class reads.
- spiller: another class reads what it writes, too: either because the latent writes the factors of
  two classes, or because both classes read the one factor that it stands for.
- split: the class reads two factors and either suffices; each has a latent.
- none: no latent stands for anything that the class reads; the best one goes along now and then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Role = Literal["driver", "companion", "spiller", "split", "none"]
ROLES: tuple[Role, ...] = get_args(Role)
GROUND = "ground"
GROUND_LEVEL = 0.5  # of evidence that every patch has for ground
CAP = 1.5  # of evidence from one of two factors, either of which suffices


@dataclass(frozen=True)
class Size:
    """How much of everything a world has; `grid` patches a side, images of each split."""

    grid: int = 5
    d_model: int = 192
    n_training: int = 96
    n_validation: int = 32
    classes: tuple[int, int] = (5, 7)  # from, to; ground comes on top
    n_textures: int = 40
    n_fillers: int = 500


TINY = Size(
    d_model=128, n_training=40, n_validation=24, classes=(5, 5), n_textures=16, n_fillers=200
)


@dataclass(frozen=True)
class Factor:
    """Something that patches have: typical strength, spread of its logarithm, share of all patches
    that have it whatever their class, and how strong it is there."""

    strength: float
    spread: float
    stray: float = 0.0
    stray_strength: float = 1.0  # of `strength`


@dataclass(frozen=True)
class Planted:
    """A class: `shows` has each factor of its patches and the share of them that has it.

    Each of its `reasons` is a sum of factors, times weights; evidence is what they exceed
    `threshold` by, added up. Where one alone suffices, each adds up to CAP. `frequency` is how
    often the class is drawn.
    """

    name: str
    role: Role
    frequency: float
    shows: Mapping[int, float]
    reasons: tuple[Mapping[int, float], ...]
    threshold: float
    one_suffices: bool = False

    @property
    def reads(self) -> list[int]:
        """The factors of its reasons."""
        return [factor for reason in self.reasons for factor in reason]


@dataclass(frozen=True)
class Latent:
    """Reads a mixture of factors, fires above a threshold, writes a mixture (made a unit vector).

    `noise` is the length of what its decoder row has of everything else.
    """

    reads: Mapping[int, float]
    threshold: float
    writes: Mapping[int, float]
    noise: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A world before it is made. `classes` begin with id 1; the last one is ground.

    `context` is how much evidence leaks to all patches of an image; `side_effects` how strongly
    classes read textures; `fillers` are firing frequencies of latents that stand for nothing.
    """

    seed: int
    size: Size
    factors: tuple[Factor, ...]
    classes: tuple[Planted, ...]
    latents: tuple[Latent, ...]
    fillers: tuple[float, ...]
    context: float
    side_effects: float

    @property
    def names(self) -> list[str]:
        """Names of the classes."""
        return [one.name for one in self.classes]

    @property
    def roles(self) -> list[Role]:
        """Their roles."""
        return [one.role for one in self.classes]

    @property
    def textures(self) -> range:
        """The factors that belong to no class: the last ones."""
        return range(len(self.factors) - self.size.n_textures, len(self.factors))


def rng(seed: int, purpose: str) -> np.random.Generator:
    """A source of random numbers that belongs to a seed and a purpose."""
    return np.random.default_rng([seed, *purpose.encode()])


def make_plan(seed: int, size: Size | None = None) -> Plan:
    """The world of a seed: which roles, how many classes of each, and how strong everything is."""
    size, draw = size or Size(), rng(seed, "plan")
    n = int(draw.integers(size.classes[0], size.classes[1] + 1))
    builder = _Builder(draw)
    roles = [*ROLES, *draw.choice(ROLES, n - len(ROLES), p=(0.4, 0.2, 0.1, 0.1, 0.2))]
    for place in draw.permutation(len(roles)).tolist():
        builder.add(roles[place])
    builder.link_spillers()
    builder.add_textures(size.n_textures)
    builder.classes.append(Planted(GROUND, "none", 0.0, {}, (), 0.0))
    return Plan(
        seed,
        size,
        tuple(builder.factors),
        tuple(builder.classes),
        tuple(builder.latents),
        tuple(np.exp(draw.uniform(np.log(0.004), np.log(0.08), size.n_fillers)).tolist()),
        context=float(draw.uniform(0, 1)),
        side_effects=float(draw.uniform(0, 0.08)),
    )


class _Builder:
    """Adds classes of one role after the other."""

    def __init__(self, draw: np.random.Generator) -> None:
        self.draw = draw
        self.factors: list[Factor] = []
        self.classes: list[Planted] = []
        self.latents: list[Latent] = []
        self.writes_two: list[int] = []  # latents that are to write another class's factor, too

    def factor(
        self,
        spread: float = 0.2,
        stray: float = 0.0,
        stray_strength: float = 1.0,
        size: float = 1.0,
    ) -> int:
        strength = size * float(self.draw.uniform(4, 6))
        self.factors.append(Factor(strength, spread, stray, stray_strength))
        return len(self.factors) - 1

    def latent(self, factor: int) -> Latent:
        """One that stands for a factor."""
        threshold = self.draw.uniform(0.1, 0.18) * self.factors[factor].strength
        noise = float(self.draw.uniform(0, 0.25))
        return Latent({factor: 1.0}, float(threshold), {factor: 1.0}, noise)

    def planted(
        self,
        role: Role,
        shows: Sequence[int],
        *reasons: Mapping[int, float],
        share: float | None = None,
    ) -> None:
        """A class whose threshold is a share of its first factor."""
        share = share or self.draw.uniform(0.2, 0.3)
        n_same = sum(one.role == role for one in self.classes)
        self.classes.append(
            Planted(
                name=f"{role} {n_same + 1}",
                role=role,
                frequency=float(self.draw.uniform(0.7, 1.3)),
                shows={factor: float(self.draw.uniform(0.96, 1.0)) for factor in shows},
                reasons=reasons,
                threshold=float(share * self.factors[shows[0]].strength),
                one_suffices=role == "split",
            )
        )

    def add(self, role: Role) -> None:
        adds: dict[Role, Callable[[], None]] = {
            "driver": self._driver,
            "companion": self._companion,
            "spiller": self._spiller,
            "split": self._split,
            "none": self._none,
        }
        adds[role]()

    def _driver(self) -> None:
        own = self.factor(self.draw.uniform(0.1, 0.25), self.draw.uniform(0, 0.1), 0.25)
        self.latents.append(self.latent(own))
        self.planted("driver", [own], {own: 1.0})
        if self.draw.random() < 0.5:  # some patches have another reason to be of the class
            other, share = self.factor(0.1), float(self.draw.uniform(0.05, 0.25))
            self._show(-1, other, share)
            reasons = (*self.classes[-1].reasons, {other: 1.0})
            self.classes[-1] = replace(self.classes[-1], reasons=reasons)

    def _companion(self) -> None:
        read, share = self._read_without_latent()
        other = self.factor(stray=self.draw.uniform(0, 0.01))
        self.latents.append(self.latent(other))
        self.planted("companion", [read, other], {read: 1.0}, share=share)

    def _spiller(self) -> None:
        shared = self.factor(self.draw.uniform(0.1, 0.25))
        if self.draw.random() < 0.5:
            self.writes_two.append(len(self.latents))
            self.planted("spiller", [shared], {shared: 1.0})
        else:
            for own in (self.factor(0.1, size=0.4), self.factor(0.1, size=0.4)):
                self.planted("spiller", [shared, own], {shared: 1.0, own: 0.7}, share=0.5)
        self.latents.append(self.latent(shared))

    def _split(self) -> None:
        pair = [self.factor(0.15), self.factor(0.15)]
        self.latents += [self.latent(one) for one in pair]
        self.planted("split", pair, {pair[0]: 1.0}, {pair[1]: 1.0})

    def _none(self) -> None:
        own, share = self._read_without_latent()
        self.planted("none", [own], {own: 1.0}, share=share)

    def _read_without_latent(self) -> tuple[int, float | None]:
        """What a class reads; of some a large share is needed, so that any push takes it away."""
        if self.draw.random() < 0.4:
            return self.factor(0.08), 0.75
        return self.factor(), None

    def link_spillers(self) -> None:
        """Latents that write two factors get the other one: what another class reads."""
        for latent in self.writes_two:
            (own,) = self.latents[latent].reads
            others = [
                next(iter(one.reads))
                for one in self.classes
                if one.role in ("driver", "companion", "none") and own not in one.reads
            ]
            written = {own: 1.0, int(self.draw.choice(others)): 1.0}
            self.latents[latent] = replace(self.latents[latent], writes=written)

    def add_textures(self, n: int) -> None:
        """Factors of no class, each with a latent; some go along with classes of no latent."""
        first = len(self.factors)
        for _ in range(n):
            texture = self.factor(stray=float(self.draw.uniform(0.05, 0.2)))
            self.latents.append(self.latent(texture))
        lacking = [place for place, one in enumerate(self.classes) if one.role == "none"]
        chosen = first + self.draw.choice(n, len(lacking), replace=False)
        for place, texture in zip(lacking, chosen.tolist(), strict=True):
            self._show(place, texture, self.draw.uniform(0.5, 0.8))

    def _show(self, place: int, factor: int, share: float) -> None:
        """Lets a share of a class's patches have one more factor."""
        shows = {**self.classes[place].shows, factor: float(share)}
        self.classes[place] = replace(self.classes[place], shows=shows)

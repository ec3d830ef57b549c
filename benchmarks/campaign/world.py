"""What campaigns run commands on: the demo world, few images, a finished run, an empty store."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaign.hand import Hand
from semseg_cli.tracking import sqlite_making

IMAGES, TRAINING = 8, 12
OF_OTHERS = ("MLFLOW_", "SEMSEG_", "WORLD_SIZE", "RANK")


@dataclass(frozen=True)
class World:
    """A folder with all of it; `given` are the options that name models and data."""

    folder: Path
    given: tuple[str, ...] = ()

    @property
    def spare(self) -> Path:
        """A finished run that was never tracked."""
        return self.folder / "spare"

    @property
    def store(self) -> Path:
        """An empty store."""
        return self.folder / "empty.db"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command: nothing of the user's, no network."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_OTHERS)}
        own = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return {**kept, **own, **quiet}

    def words(self, command: str, *more: str) -> list[str]:
        """A command on the demo's models and the few images."""
        return [command, *self.given, *more]

    def place(self, name: str) -> Path:
        """A new folder to work in, with a copy of the spare run."""
        made = self.folder / "places" / name
        made.mkdir(parents=True)
        shutil.copytree(self.spare, made / "spare")
        return made

    def give_store(self, place: Path, name: str = "mlflow.db") -> None:
        """Puts an empty store into a place, by default where commands look for it."""
        shutil.copy(self.store, place / name)


def make_world(folder: Path) -> World:
    """Exports the demo world, takes few of its images, and furnishes it."""
    data = folder / "data"
    given = ("--config", str(folder / "demo/demo.toml"), "--imgs-root", str(data))
    world = World(folder, given)
    hand = Hand(world.environment)
    _do(hand, ["demo", "export", "demo"], folder)
    for part in ("images", "annotations"):
        for split, most in (("validation", IMAGES), ("training", TRAINING)):
            to = data / part / split
            to.mkdir(parents=True)
            for path in sorted((folder / "demo/ade20k" / part / split).iterdir())[:most]:
                shutil.copy(path, to)
    shutil.copy(folder / "demo/ade20k/objectInfo150.txt", data)
    furnish(world, hand)
    return world


def furnish(world: World, hand: Hand) -> None:
    """Makes the spare run, and the empty store where there is none."""
    words = world.words("rand-vec", "--no-track", "--no-plots", "--dump-to", "made")
    _do(hand, words, world.folder)
    next((world.folder / "made").iterdir()).rename(world.spare)
    if not world.store.exists():
        sqlite_making.prepare(world.store)


def _do(hand: Hand, words: list[str], folder: Path) -> None:
    done = hand.run(words, folder)
    if done.code:
        raise RuntimeError(f"{words[0]} fails undisturbed: {done.err}")

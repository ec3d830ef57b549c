"""What campaigns run commands on: the demo world, few images, a finished run, an empty store."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from semseg_cli.tracking import sqlite_making

IMAGES, TRAINING = 8, 12
OF_OTHERS = ("MLFLOW_", "SEMSEG_", "WORLD_SIZE", "RANK")


@dataclass(frozen=True)
class World:
    """A folder with all of it."""

    folder: Path

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
        given = {"--config": self.folder / "demo/demo.toml", "--imgs-root": self.folder / "data"}
        return [command, *(str(part) for pair in given.items() for part in pair), *more]

    def place(self, name: str) -> Path:
        """A new folder to work in, with a copy of the spare run."""
        made = self.folder / "places" / name
        made.mkdir(parents=True)
        shutil.copytree(self.spare, made / "spare")
        return made

    def give_store(self, place: Path) -> None:
        """Puts an empty store where commands look for it."""
        shutil.copy(self.store, place / "mlflow.db")


def make_world(folder: Path) -> World:
    """Exports the demo world, and runs a command on it once."""
    world = World(folder)
    _type(world, "demo", "export", "demo")
    for part in ("images", "annotations"):
        for split, most in (("validation", IMAGES), ("training", TRAINING)):
            to = folder / "data" / part / split
            to.mkdir(parents=True)
            for path in sorted((folder / "demo/ade20k" / part / split).iterdir())[:most]:
                shutil.copy(path, to)
    shutil.copy(folder / "demo/ade20k/objectInfo150.txt", folder / "data")
    _type(world, *world.words("rand-vec", "--no-track", "--no-plots", "--dump-to", "made"))
    next((folder / "made").iterdir()).rename(world.spare)
    sqlite_making.prepare(world.store)
    return world


def _type(world: World, *words: str) -> None:
    command = [sys.executable, "-m", "semseg_cli", *words]
    subprocess.run(
        command, cwd=world.folder, env=world.environment, check=True, capture_output=True
    )

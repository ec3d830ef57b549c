"""Where the demo world is: packaged weights, scenes in the user's cache, a copy for the user."""

import contextlib
import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from semseg_cli.demo.scene_files import generate
from semseg_cli.demo.seed import WORLD_SEED
from semseg_cli.errors import SemsegError
from semseg_cli.progress import Progress, silent

# Part of the cache folder's name: raise it whenever the scenes change (a test notices).
GENERATOR_VERSION = 1
N_TRAIN = 250
N_VAL = 100
DEMO_CAPTION = "The demo world (drawn scenes, a tiny ViT): it shows the tool, not DINOv2."

_PACKAGE = Path(__file__).parent
_PRESET = _PACKAGE.parent / "settings" / "presets" / "demo.toml"


@dataclasses.dataclass(frozen=True)
class WorldFiles:
    """The model half of a demo world, in one folder."""

    folder: Path

    @property
    def vit(self) -> Path:
        return self.folder / "vit"

    @property
    def sae(self) -> Path:
        return self.folder / "sae.pt"

    @property
    def head(self) -> Path:
        return self.folder / "head.pt"

    @property
    def stats(self) -> Path:
        return self.folder / "stats.safetensors"


def shipped_files() -> WorldFiles:
    """The trained weights and statistics that come with the package."""
    return WorldFiles(_PACKAGE / "weights")


def world_folder(cache_dir: Path) -> Path:
    """Where the scenes are, or will be; every parameter of the generator is in the name."""
    parameters = f"{GENERATOR_VERSION}-{N_TRAIN}-{N_VAL}-{WORLD_SEED}"
    return cache_dir / f"demo-{hashlib.sha256(parameters.encode()).hexdigest()[:12]}"


def is_world(root: Path | str | None) -> bool:
    """Whether images come from the demo world, by the name of their folder."""
    return root is not None and Path(root).name == world_folder(Path()).name


def ensure_world(
    cache_dir: Path, progress: Progress = silent, n_workers: int | None = None
) -> Path:
    """The ADE20K folder of the demo world, which the first call draws into the cache.

    `progress` counts scenes; it is not called when they are there already.
    """
    folder = world_folder(cache_dir)
    return generate(folder, N_TRAIN, N_VAL, WORLD_SEED, n_workers, progress)


def export(folder: Path, cache_dir: Path, progress: Progress = silent) -> Path:
    """Writes the whole demo world to a new or empty folder and returns it.

    `demo.toml` in it gives the report of the `demo` preset, with the files next to it.
    """
    refuse_filled(folder)
    scenes = ensure_world(cache_dir, progress)
    with written_whole(folder) as part:
        shutil.copytree(shipped_files().folder, part, dirs_exist_ok=True)
        shutil.copytree(scenes, part / "ade20k")
        write_extras(part)
    return folder.resolve()


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder whose entries move to a new or empty `folder` if the block succeeds."""
    folder = folder.resolve()
    refuse_filled(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            yield Path(part)
            for entry in sorted(Path(part).iterdir()):
                entry.rename(folder / entry.name)
    except BaseException as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise SemsegError(
            f"cannot write the demo world to {folder} ({error.strerror or error}): "
            "choose a folder that is writable and has 30 MB of space"
        ) from error


def refuse_filled(folder: Path) -> None:
    """Raises unless the folder is empty or does not exist."""
    if folder.exists() and not folder.is_dir():
        raise SemsegError(f"{folder} is a file: give a new or empty folder for the demo world")
    if folder.is_dir() and any(folder.iterdir()):
        raise SemsegError(f"{folder} is not empty: give a new or empty folder for the demo world")


def write_extras(folder: Path) -> None:
    """Writes `README.md` (the model card) and `demo.toml` for a world in `folder`."""
    shutil.copyfile(_PACKAGE / "MODEL_CARD.md", folder / "README.md")
    settings = _PRESET.read_text(encoding="utf-8")
    body = "".join(line for line in settings.splitlines(True) if not line.startswith("# {"))
    body = body.replace("{weights}/", "").replace("{world}", "ade20k")
    (folder / "demo.toml").write_text(body, encoding="utf-8")

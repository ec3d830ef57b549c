"""python -m benchmarks several: a suite of many SAEs at one layer against a suite of each.

On a planted world whose SAE is disturbed a little for each. Both sides share their residuals among
themselves, but not with each other. Beside it the same in images that go through the rest of the
network, which does not depend on the machine.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.planted.plan import TINY, make_plan
from benchmarks.planted.world import write_world
from semseg_cli.cli import run
from semseg_cli.models import sae as saes
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

AT_MOST = 0.5
NOISE = 0.02  # length of what is added to each decoder row
COLUMNS = (
    Column("side", "", "text", elastic=True),
    Column("seconds", "processor\nseconds", "ratio"),
    Column("n_edited", "images through\nthe rest", "count"),
)


@dataclass(frozen=True)
class Cost:
    """Processor seconds, and images that went through the rest of the network."""

    seconds: float
    n_edited: int


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks several", description=__doc__)
    made.add_argument("--saes", type=int, default=10)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--peers", type=int, default=39)
    made.add_argument("--matched-peers", type=int, default=39)
    return made


def several(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether all together cost at most half of each alone."""
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        world = write_world(Path(folder) / "world", make_plan(given.seed, TINY))
        world.write_settings()
        config = world.folder / "planted.toml"
        paths = disturbed(world.folder, given.saes)
        nulls = ["--peers", str(given.peers), "--matched-peers", str(given.matched_peers)]
        together = cost(config, [paths], nulls, Path(folder) / "together")
        alone = cost(config, [[path] for path in paths], nulls, Path(folder) / "alone")
    rows = (
        {"side": f"suite of {given.saes} SAEs", **vars(together)},
        {"side": f"{given.saes} suites of one", **vars(alone)},
    )
    ratio, edited = together.seconds / alone.seconds, together.n_edited / alone.n_edited
    notes = (
        f"{ratio:.3f} of the processor time, {edited:.3f} of the images through the rest of the "
        f"network; asked: {AT_MOST:g}.",
    )
    show(Table("SAEs side by side", COLUMNS, rows, notes))
    return ratio <= AT_MOST


def disturbed(world: Path, n_saes: int) -> list[Path]:
    """Files of the world's SAE, each with other noise on its decoder rows."""
    sae, folder = saes.load(world / "sae.pt"), world / "saes"
    folder.mkdir()
    paths = []
    for i in range(n_saes):
        draw = torch.Generator().manual_seed(i)
        noise_sd = torch.randn(sae.W_dec.shape, generator=draw) * NOISE / sae.d_model**0.5
        w_dec = torch.nn.functional.normalize(sae.W_dec + noise_sd, dim=1)
        made = SparseAutoencoder(sae.W_enc, sae.b_enc, w_dec, sae.b_dec, sae.nonlinearity)
        paths.append(folder / f"{i:02d}.pt")
        saes.save(paths[-1], made)
    return paths


def cost(config: Path, suites: Sequence[Sequence[Path]], more: Sequence[str], folder: Path) -> Cost:
    """What these suites cost, one after the other, with a cache of their own."""
    folder.mkdir()
    shared = ["--config", str(config), "--cache-dir", str(folder / "cache")]
    shared += ["--no-track", "--no-plots", "--quiet", *more]
    begin = time.process_time()
    with counted() as n_edited, working_in(folder):
        for paths in suites:
            named = [word for path in paths for word in ("--sae-ckpt", str(path))]
            typed("suite", *shared, *named)
    return Cost(time.process_time() - begin, sum(n_edited))


def typed(*words: str) -> None:
    """Runs a command in this process.

    Raises:
        RuntimeError: it failed.
    """
    said = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(said):
        try:
            run(list(words))
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"`semseg-cli {' '.join(words)}` failed") from ended


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """A block in another working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """How many images go through the rest of the network, call by call."""
    found: list[int] = []
    features = Pipeline.features

    def counting(self: Pipeline, tokens_bnd: Any) -> Any:
        found.append(len(tokens_bnd))
        return features(self, tokens_bnd)

    Pipeline.features = counting  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Pipeline.features = features  # type: ignore[method-assign]

"""Fixtures that many tests share: two small worlds, made once."""

from __future__ import annotations

import functools
import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import xdist
from browser import Browser, find_browser

if TYPE_CHECKING:  # the process that hands tests out loads no torch: those that run them do
    from collections.abc import Iterator

    from terminal import Terminal
    from worlds import World

    from semseg_cli.experiment.session import Session

hypothesis.settings.register_profile("loaded machine", deadline=None, max_examples=50)
hypothesis.settings.load_profile("loaded machine")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup commands would rightly ignore it


def pytest_sessionstart(session: pytest.Session) -> None:
    if not xdist.is_xdist_controller(session):
        _settle()


def _settle() -> None:
    """What holds for all tests, whatever the machine."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the worlds are tiny: threads only get in each other's way
    import torch
    from mlflow.store.db import utils
    from terminal import NO_PLOTS

    from semseg_cli import progress
    from semseg_cli.__main__ import NEW_OBJECTS
    from semseg_cli.tracking import patience

    progress.LONG = 3600.0  # what commands print must not depend on how loaded the machine is
    patience.WAIT_SECONDS = 3600.0  # nor whether a store answers
    os.environ[NO_PLOTS] = "true"  # drawing is a third of a tiny run: tests that look use `drawn`
    gc.set_threshold(NEW_OBJECTS, 20, 20)  # as the program does
    torch.set_num_threads(1)
    # Every client would read MLflow's 60 migrations again, for the number of the last one.
    latest = utils._get_latest_schema_revision
    utils._get_latest_schema_revision = functools.cache(latest)


# In this order and first: so no process waits for another one in the end, and only one of them has
# a fork server, which the first modules use and which takes long to load.
LONG = (
    "test_ending", "test_campaigns", "test_ranks", "test_memory_budget", "test_real_size",
    "test_postgres", "test_tracking", "test_ui", "test_resume", "test_demo_runs", "test_notebook",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture
def drawn() -> Iterator[None]:
    """Commands draw during the test."""
    from terminal import drawing

    with drawing():
        yield


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    from worlds import make_tiny_world

    return make_tiny_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def known_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    from worlds import make_known_world

    return make_known_world(tmp_path_factory.mktemp("known"))


@pytest.fixture
def tiny(tiny_world: World) -> Session:
    return tiny_world.session()


@pytest.fixture
def known(known_world: World) -> Session:
    return known_world.session()


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all processes of the tests, since drawing the demo world takes seconds: the
    folder that $DEMO_CACHE names, or a new one."""
    if given := os.environ.get("DEMO_CACHE"):
        return Path(given)
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo-cache"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """An empty working directory with a new store."""
    from terminal import working_in

    with working_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, started once."""
    program = find_browser()
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with Browser(program, tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="session")
def ade20k_sample() -> Path:
    from worlds import SHARED

    folder = SHARED / "ade20k-sample"
    if not folder.is_dir():
        pytest.skip(f"needs the three real ADE20K images in {folder}")
    return folder


@pytest.fixture(scope="session")
def saev_samples() -> Path:
    from worlds import SHARED

    folder = SHARED / "saev-sae-samples"
    if not folder.is_dir():
        pytest.skip(f"needs the saev files in {folder}")
    return folder

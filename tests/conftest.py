"""Fixtures that many tests share: two small worlds, made once."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from browser import Browser, find_browser
from terminal import NO_PLOTS, Terminal, drawing, working_in
from worlds import SHARED, World, make_known_world, make_tiny_world

from semseg_cli import progress
from semseg_cli.__main__ import NEW_OBJECTS
from semseg_cli.experiment.session import Session
from semseg_cli.tracking import patience

hypothesis.settings.register_profile("loaded machine", deadline=None)
hypothesis.settings.load_profile("loaded machine")
progress.LONG = 3600.0  # what commands print must not depend on how loaded the machine is
patience.WAIT_SECONDS = 3600.0  # nor whether a store answers
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup commands would rightly ignore it
os.environ[NO_PLOTS] = "true"  # drawing is a third of a tiny run: tests that look use `drawn`
gc.set_threshold(NEW_OBJECTS, 20, 20)  # as the program does
torch.set_num_threads(1)  # the worlds are tiny: more threads only get in each other's way


LONG = ("test_demo_runs", "test_ranks", "test_ending", "test_notebook", "test_postgres")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules come first, so that no process waits for another one in the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture
def drawn() -> Iterator[None]:
    """Commands draw during the test."""
    with drawing():
        yield


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_tiny_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def known_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_known_world(tmp_path_factory.mktemp("known"))


@pytest.fixture
def tiny(tiny_world: World) -> Session:
    return tiny_world.session()


@pytest.fixture
def known(known_world: World) -> Session:
    return known_world.session()


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all processes of the tests: drawing the demo world takes seconds."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo-cache"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """An empty working directory with a new store."""
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
    folder = SHARED / "ade20k-sample"
    if not folder.is_dir():
        pytest.skip(f"needs the three real ADE20K images in {folder}")
    return folder


@pytest.fixture(scope="session")
def saev_samples() -> Path:
    folder = SHARED / "saev-sae-samples"
    if not folder.is_dir():
        pytest.skip(f"needs the saev files in {folder}")
    return folder

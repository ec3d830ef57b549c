"""The images on which latents are most active: the same as looking at all of them, one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_examples import counted, outcome_of
from worlds import World

from semseg_cli.data.loader import Loader
from semseg_cli.experiment.session import Session
from semseg_cli.experiment.top_images import (
    N_SHOWN,
    add_latents,
    add_top_images,
    find_top_images,
    latents_of,
)
from semseg_cli.runs.folder import RunFolder, make_run_folder
from semseg_cli.runs.rows import read_rows
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.show.activation_picture import as_files, sheet
from semseg_cli.show.latent_cards import ROOM

LATENTS = {1: 0, 2: 3, 3: 7}


def slow_top(session: Session, latent: int, n: int) -> list[tuple[int, float, torch.Tensor]]:
    """Position, largest activation and activations of the `n` most active images."""
    found = []
    pipeline = session.pipeline
    for batch, tokens_bnd in pipeline.residuals(Loader(session.lookup_dataset, 1)):
        sae = pipeline.sae
        acts_ts = sae.encode(sae.scale(pipeline.patches(tokens_bnd)[0]))
        position = int(batch.positions_b[0])
        found.append((position, float(acts_ts[:, latent].max()), acts_ts[:, latent]))
    return sorted(found, key=lambda one: (-one[1], one[0]))[:n]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_top_images_are_those_of_looking_at_every_image(batch_size: int, tiny_world: World) -> None:
    session = tiny_world.session()
    latents, n = [0, 3, 7, 3], 3
    loader = Loader(session.lookup_dataset, batch_size)
    found = find_top_images(session.pipeline, loader, latents, n)
    for k, latent in enumerate(latents):
        with torch.inference_mode():
            expected = slow_top(session, latent, n)
        assert found.positions_kn[k].tolist() == [position for position, _, _ in expected]
        for i, (_, most, acts_t) in enumerate(expected):
            assert float(found.most_kn[k, i]) == pytest.approx(most, abs=1e-4)
            torch.testing.assert_close(found.acts_knt[k, i], acts_t, atol=1e-4, rtol=1e-4)


def test_there_may_be_fewer_images_than_asked_for(tiny_world: World) -> None:
    session = tiny_world.session()
    dataset = session.lookup_dataset.subset([0, 1])
    found = find_top_images(session.pipeline, Loader(dataset, 4), [1], 5)
    assert found.most_kn.shape == (1, 2)


def folder_of(root: Path) -> RunFolder:
    return make_run_folder(root, {"run_name": "auto-feat x-2"})


def contents(folder: RunFolder) -> dict[str, bytes]:
    paths = [folder.path / "top_images.csv", *(folder.path / "latents").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_pictures_are_the_same_with_kept_residuals_which_cost_no_pass(
    known_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for no_cache in (True, False):
        session = known_world.session(no_cache=no_cache, cache_dir=tmp_path / "cache")
        outcome = outcome_of(session, AutoFeat(scale=(-3.0,), max_freq=1.0))
        seen = counted(session.pipeline.vit, monkeypatch)
        folder = folder_of(tmp_path / f"{no_cache}")
        add_latents([folder], [outcome])
        made.append(contents(folder))
        n_searched = {row["n_images"] for row in read_rows(folder.path / "top_images.csv")}
        assert {sum(seen)} == (n_searched if no_cache else {0})
    assert made[0] == made[1]


def test_rows_name_the_images_of_the_lookup_split(known_world: World, tmp_path: Path) -> None:
    session = known_world.session()
    outcome = outcome_of(session, AutoFeat(scale=(-3.0,), max_freq=1.0))
    one, other = folder_of(tmp_path / "a"), folder_of(tmp_path / "b")
    add_latents([one, other], [outcome, replace(outcome)])
    assert contents(one) == contents(other)
    rows = read_rows(one.path / "top_images.csv")
    lookup, latents = session.lookup_dataset, latents_of(outcome)
    assert {row["split"] for row in rows} == {lookup.split} != {session.dataset.split}
    assert {row["image"] for row in rows} <= set(lookup.names)
    assert {row["class_id"]: row["latent"] for row in rows} == latents
    for class_id in latents:
        own = [row["activation"] for row in rows if row["class_id"] == class_id]
        assert own == sorted(own, reverse=True)
        assert min(own) > 0
        with Image.open(one.path / "latents" / f"{class_id}.jpg") as picture:
            assert picture.width == len(own) * 132 - 4


def test_vectors_and_draws_have_no_latents(known_world: World) -> None:
    session = known_world.session()
    assert latents_of(outcome_of(session, RandVec(scale=(4.0,)))) == {}
    several = outcome_of(session, RandFeat(scale=(5.0,), match="none", draws=2))
    assert latents_of(several) == {}


def test_without_a_lookup_split_there_are_none(known_world: World, tmp_path: Path) -> None:
    session = known_world.session()
    session.setup = replace(session.setup, lookup_split="missing")
    for opened in ("lookup_dataset", "clean_dataset"):
        vars(session).pop(opened, None)
    folder = folder_of(tmp_path)
    add_top_images([folder], session, LATENTS)
    assert not (folder.path / "top_images.csv").exists()
    assert not (folder.path / "latents").exists()


def test_a_sheet_has_images_above_and_their_activations_below() -> None:
    grid = np.zeros((2, 2))
    grid[0, 1] = 5.0
    made = np.asarray(sheet([(np.ones((20, 20, 3)), grid), (np.ones((20, 20, 3)), grid / 2)], 20))
    assert made.shape == (2 * 20 + 4, 2 * 20 + 4, 3)
    assert (made[:20, :20] == 255).all()
    top, half, dark = made[30, 15].sum(), made[30, 39].sum(), made[30, 5].sum()
    assert top > half > dark
    assert (made[24:34, 10:20] == made[30, 15]).all()


def test_pictures_of_150_classes_fit_a_page() -> None:
    generator = np.random.default_rng(0)
    noise = generator.random((96, 96, 3))  # nothing is harder to compress
    n = max(1, min(4, N_SHOWN // 150))
    sheets = [sheet([(noise, noise[:16, :16, 0])] * n, 96)] * 150
    assert sum(map(len, as_files(sheets))) <= ROOM

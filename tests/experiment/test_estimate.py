"""The plan of a run: what it says is what the run does."""

import os
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import World

from semseg_cli.data.dataset import Dataset
from semseg_cli.data.loader import Loader
from semseg_cli.experiment import estimate
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.estimate import Seconds, make_plan, tails_of
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.models.cache_folders import kept_entries, residuals_folder
from semseg_cli.models.cache_room import Keeping
from semseg_cli.models.residual_cache import ResidualCache
from semseg_cli.models.residuals import Residuals
from semseg_cli.settings.controls import RandVec
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import AutoFeat, MeanDiff, Method

Usage = namedtuple("Usage", ["free"])
N_PATCHES = 16
LOOKUP = Choose(max_freq=1.0)
AUTO_FEAT = AutoFeat(max_freq=1.0)


@pytest.fixture(autouse=True)
def known_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix takes 10,000 s, encoding an image 100 s, a tail 1 s."""
    monkeypatch.setattr(estimate, "_measure", lambda *_: Seconds(1e4, 1e2, 1.0))


def opened(world: World, folder: Path, **changes: Any) -> Session:
    """A session whose residuals are kept; statistics are missing."""
    return open_session(world.setup(**{"no_cache": False, "cache_dir": folder, **changes}))


def counted(session: Session, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """From now on, the images that go through the first part of the ViT and the encoder."""
    seen = {"prefix": 0, "encoded": 0}
    vit, sae_type = session.pipeline.vit, type(session.pipeline.sae)
    prefix, encode = vit.prefix, sae_type.encode

    def counting_prefix(images: Tensor, layer: int, site: str = "resid-post") -> Tensor:
        seen["prefix"] += len(images)
        return prefix(images, layer, site)

    def counting_encode(sae: Any, z: Tensor) -> Tensor:
        seen["encoded"] += len(z)
        return encode(sae, z)

    monkeypatch.setattr(vit, "prefix", counting_prefix)
    monkeypatch.setattr(sae_type, "encode", counting_encode)
    return seen


def foreseen(cache: ResidualCache, session: Session, dataset: Dataset) -> Keeping:
    """What a run would add of one dataset."""
    pipeline = session.pipeline
    return cache.foresee(pipeline.vit, pipeline.layer, [dataset])[dataset.digest]


def do(session: Session, method: Method | Choose) -> None:
    if isinstance(method, Choose):
        choose_latents(session, method)
    else:
        run(session, [method], {})


CACHES: list[dict[str, Any]] = [{}, {"no_cache": True}, {"cache_limit": 1e-6}]
METHODS = [
    LOOKUP,
    Choose(max_freq=1.0, select="cause"),
    AUTO_FEAT,
    RandVec(match="none"),
    MeanDiff(match="project", max_freq=1.0),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("cache", CACHES, ids=["kept", "no cache", "no room"])
def test_a_run_does_what_its_plan_says_the_first_time_and_the_second(
    cache: dict[str, Any],
    method: Method | Choose,
    known_world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(2):
        session = opened(known_world, tmp_path, **cache)
        said = make_plan(session, [method])
        assert said.seconds == 1e4 * said.n_prefixes + 1e2 * said.n_encoded + said.n_tails
        with monkeypatch.context() as patch:
            seen = counted(session, patch)
            do(session, method)
        assert seen == {"prefix": said.n_prefixes, "encoded": said.n_encoded * N_PATCHES}
        for path in (tmp_path / "stats").glob("*"):
            path.unlink()  # a plan takes missing statistics to be computed


def test_a_plan_says_where_passes_depend_on_which_classes_have_a_latent(
    known_world: World, tmp_path: Path
) -> None:
    session = opened(known_world, tmp_path)
    for method, is_known in ((AUTO_FEAT, False), (RandVec(match="none"), True)):
        plan = make_plan(session, [method])
        assert plan.tails == f"{'' if is_known else 'at most '}{plan.n_tails}"
    plans = [make_plan(session, [RandVec(match="none")], n) for n in (0, 7)]
    assert [plan.may_lack for plan in plans] == [False, True]
    assert tails_of(plans) == f"at most {sum(plan.n_tails for plan in plans)}"
    assert tails_of([*plans, replace(plan, is_sampled=True)]).startswith("about ")


def test_encoding_takes_its_time_though_everything_is_kept(
    known_world: World, tmp_path: Path
) -> None:
    do(opened(known_world, tmp_path), AUTO_FEAT)
    session = opened(known_world, tmp_path)
    said = make_plan(session, [LOOKUP])
    assert (said.n_prefixes, said.n_encoded, said.seconds) == (0, 8, 800)  # statistics and lookup
    assert "images to encode: 8" in "\n".join(said.lines())
    latents = {"sparsity": torch.zeros(15), "top_values": torch.zeros(15)}
    session.given_stats.update(latents)
    assert make_plan(session, [LOOKUP]).n_encoded == 4
    del session.given_stats["act_mean"]  # a mean needs no encoder
    assert make_plan(session, [LOOKUP]).n_encoded == 4


def test_a_limit_that_is_too_small_is_told_and_every_pass_runs_the_vit(
    known_world: World, tmp_path: Path
) -> None:
    said = make_plan(opened(known_world, tmp_path, cache_limit=1e-6), [LOOKUP])
    assert said.n_prefixes == 8
    assert said.kept.startswith("none (these images need")
    assert said.kept.endswith("MiB more, --cache-limit is 0.00102 MiB)")
    assert make_plan(opened(known_world, tmp_path), [LOOKUP]).kept == "0.00 GiB"
    assert make_plan(opened(known_world, tmp_path, no_cache=True), [LOOKUP]).kept == "none"


def test_what_is_kept_of_a_dataset_counts_towards_the_limit(
    known_world: World, tmp_path: Path
) -> None:
    whole = opened(known_world, tmp_path)
    cache = whole.pipeline.cache
    assert cache is not None
    dataset = whole.lookup_dataset
    n_bytes = foreseen(cache, whole, dataset).n_bytes
    limit = n_bytes * 3.5 / 4 / 2**30
    do(opened(known_world, tmp_path, lookup_images=3, cache_limit=limit), LOOKUP)
    short = opened(known_world, tmp_path, cache_limit=limit)
    assert make_plan(short, [LOOKUP]).n_prefixes == 2  # one image is missing, in two passes
    do(short, LOOKUP)
    found = foreseen(cache, short, dataset)
    assert (found.n_missing, found.n_bytes) == (1, n_bytes // 4)


def test_datasets_share_the_room_of_the_disk(
    known_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(known_world, tmp_path / "not" / "there")
    pipeline, cache = session.pipeline, session.pipeline.cache
    assert cache is not None
    datasets = [session.lookup_dataset, session.dataset, session.lookup_dataset]
    one = foreseen(cache, session, session.dataset).n_bytes // 3
    places = []

    def usage(path: Path) -> Usage:
        places.append(path)
        return Usage(7 * one - 1)

    monkeypatch.setattr("shutil.disk_usage", usage)
    found = cache.foresee(pipeline.vit, pipeline.layer, datasets)
    assert places == [tmp_path]
    first, second = found.values()
    assert first == Keeping(4, 4 * one)
    assert second.n_missing == 3
    assert second.refused.startswith(f"{cache.folder} has ")
    said = make_plan(session, [AUTO_FEAT])
    assert said.kept == f"0.00 GiB ({second.refused})"
    assert said.n_prefixes == 7
    assert not residuals_folder(tmp_path / "not" / "there").exists()


def test_both_datasets_of_a_run_stay_within_the_limit_and_others_make_room(
    known_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(known_world, tmp_path).pipeline.cache
    assert cache is not None
    session = opened(known_world, tmp_path)
    vit = session.pipeline.vit
    one = foreseen(cache, session, session.dataset).n_bytes // 3
    limit = 5.9 * one / 2**30
    short = opened(known_world, tmp_path, cache_limit=limit)
    said = make_plan(short, [AUTO_FEAT])
    assert said.kept.startswith("0.00 GiB (these images need")
    assert said.kept.endswith("are in use)")
    do(short, AUTO_FEAT)
    assert foreseen(cache, session, session.lookup_dataset).n_missing == 0
    assert foreseen(cache, session, session.dataset).n_missing == 3
    assert make_plan(opened(known_world, tmp_path, cache_limit=limit), [AUTO_FEAT]).n_prefixes == 3

    def added(layer: int) -> Keeping:
        small = replace(cache, max_bytes=int(5.9 * one))
        (found,) = small.foresee(vit, layer, [session.dataset]).values()
        return found

    assert added(2).refused.endswith("are in use")  # layer 1 is in use
    monkeypatch.setattr("semseg_cli.models.cache_folders.IN_USE_SECONDS", -1.0)
    assert added(2) == Keeping(3, 3 * one)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(0))
    assert not added(2).refused  # four images of layer 1 may go


def test_a_plan_knows_that_the_first_dataset_takes_the_room_of_the_second(
    known_world: World, tmp_path: Path
) -> None:
    session = opened(known_world, tmp_path)
    pipeline, cache = session.pipeline, session.pipeline.cache
    assert cache is not None
    for _ in Residuals(pipeline.vit, pipeline.layer, Loader(session.dataset, 4), cache):
        pass
    (kept,) = kept_entries(cache.folder)
    os.utime(kept.path / "entry.json", (1000, 1000))  # long ago
    limit = kept.n_bytes / 3 * 6.5 / 2**30  # of 3 images of the one and 4 of the other
    said = make_plan(opened(known_world, tmp_path, cache_limit=limit), [AUTO_FEAT])
    assert said.n_prefixes == 4 + 3
    assert "are in use" in said.kept
    short = opened(known_world, tmp_path, cache_limit=limit)
    with pytest.MonkeyPatch.context() as patch:
        seen = counted(short, patch)
        do(short, AUTO_FEAT)
    assert seen["prefix"] == said.n_prefixes

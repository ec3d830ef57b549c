"""The residual cache: what is read is what would have been computed, and nothing else."""

import json
import logging
import multiprocessing
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import Terminal, options
from torch import Tensor
from worlds import World, backbone, count_images, make_tiny_world, make_vit

from semseg_cli.data.dataset import Dataset, open_dataset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.sae_statistics import compute_stats
from semseg_cli.experiment.session import Session
from semseg_cli.files import cannot_write
from semseg_cli.models import cache_folders
from semseg_cli.models.cache_folders import kept_entries, residuals_folder
from semseg_cli.models.residual_cache import CacheEntry, ResidualCache
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.models.vit import Backbone

LAYER = 2
PATCH = 32


@pytest.fixture
def vit() -> Backbone:
    return backbone(registers=2, seed=3)


@pytest.fixture
def dataset(tiny_world: World) -> Dataset:
    return open_dataset(tiny_world.data, "training", PATCH)


@pytest.fixture
def cache(tmp_path: Path) -> ResidualCache:
    return ResidualCache(tmp_path / "residuals", 2**30, "a vit")


def gathered(residuals: Residuals) -> dict[str, Tensor]:
    """Everything that the batches say, by name, as a whole."""
    batches = list(residuals)
    names = ("labels_bt", "share_bt", "positions_b", "indices_b")
    found = {name: torch.cat([getattr(batch, name) for batch, _ in batches]) for name in names}
    return {**found, "tokens": torch.cat([tokens for _, tokens in batches])}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        # How a computed batch is put together may matter in the last digit.
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def files_of(cache: ResidualCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_second_time_everything_is_the_same_and_the_vit_does_not_run(
    vit: Backbone,
    dataset: Dataset,
    cache: ResidualCache,
    monkeypatch: pytest.MonkeyPatch,
    n_workers: int,
) -> None:
    expected = gathered(Residuals(vit, LAYER, Loader(dataset, 3)))
    first = Residuals(vit, LAYER, Loader(dataset, 3, n_workers), cache)
    assert first.is_kept
    found = gathered(first)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len(files_of(cache)) == len(dataset) == 7
    seen = count_images(vit, monkeypatch)
    for batch_size in (1, 3, 7):
        again = gathered(Residuals(vit, LAYER, Loader(dataset, batch_size, n_workers), cache))
        assert all(torch.equal(again[name], found[name]) for name in found)
    assert seen == []


def test_what_is_known_is_read_and_the_rest_computed(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataset.subset([1, 4, 5])
    gathered(Residuals(vit, LAYER, Loader(few, 8), cache))
    seen = count_images(vit, monkeypatch)
    found = gathered(Residuals(vit, LAYER, Loader(dataset, 3), cache))
    assert seen == [2, 1, 1]
    assert_same(found, gathered(Residuals(vit, LAYER, Loader(dataset, 3))))
    assert found["positions_b"].tolist() == list(range(7))


def test_a_subset_reads_what_the_whole_kept(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gathered(Residuals(vit, LAYER, Loader(dataset, 3), cache))
    seen = count_images(vit, monkeypatch)
    found = gathered(Residuals(vit, LAYER, Loader(dataset.subset([6, 2]), 3), cache))
    assert seen == []
    assert torch.equal(found["tokens"], whole["tokens"][[6, 2]])
    assert found["positions_b"].tolist() == [0, 1]
    assert found["indices_b"].tolist() == [6, 2]


Change = namedtuple("Change", ["vit", "layer", "dataset"])


def changes(vit: Backbone, dataset: Dataset) -> Iterator[tuple[str, Change]]:
    """Everything that decides a residual or its labels, changed one by one."""
    same = Change(vit, LAYER, dataset)
    yield "layer", same._replace(layer=1)
    yield "weights", same._replace(vit=backbone(registers=2, seed=4))
    yield "precision", same._replace(vit=backbone(registers=2, seed=3).bfloat16())
    larger = vit.preprocessing.sized((320, 320))
    other = Backbone(make_vit(registers=2, seed=3), preprocessing=larger)
    yield "image size", same._replace(vit=other, dataset=replace(dataset, preprocessing=larger))
    shifted = replace(vit.preprocessing, mean=(0.5, 0.5, 0.5))
    other = Backbone(make_vit(registers=2, seed=3), preprocessing=shifted)
    yield "normalisation", same._replace(vit=other, dataset=replace(dataset, preprocessing=shifted))
    labels = replace(dataset.labels, class_names=(*dataset.class_names, "one more"))
    yield "labels", same._replace(dataset=replace(dataset, labels=labels))


def test_nothing_is_trusted_when_anything_differs(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    names = []
    for name, change in changes(vit, dataset):
        seen = count_images(change.vit, monkeypatch)
        loader = Loader(change.dataset, 4)
        found = gathered(Residuals(change.vit, change.layer, loader, cache))
        assert seen == [4, 3], name
        assert_same(found, gathered(Residuals(change.vit, change.layer, loader)))
        names.append(name)
        monkeypatch.undo()
    assert len(kept_entries(cache.folder)) == 1 + len(names) == 7


def test_other_libraries_make_another_entry(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cache.entry(vit, LAYER, dataset).path
    for module in ("semseg_cli.models.residual_cache", "torch", "transformers", "PIL"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.__version__", "0.0")
            assert cache.entry(vit, LAYER, dataset).path != here
    assert cache.entry(vit, LAYER, dataset).path == here


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_a_changed_file_is_computed_anew(
    tmp_path: Path, tiny_world: World, vit: Backbone, cache: ResidualCache, kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root = tmp_path / "ade20k"
    shutil.copytree(tiny_world.data, root)
    loader = Loader(open_dataset(root, "training", PATCH), 8)
    gathered(Residuals(vit, LAYER, loader, cache))
    path = sorted((root / kind / "training").iterdir())[2]
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels[::-1]).save(path)
    seen = count_images(vit, monkeypatch)
    loader = Loader(open_dataset(root, "training", PATCH), 8)
    found = gathered(Residuals(vit, LAYER, loader, cache))
    assert seen == [1]
    assert_same(found, gathered(Residuals(vit, LAYER, loader)))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def make_another_file(path: Path) -> None:
    path.write_text("not what was written")


def swap_with_another_model(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"tokens": torch.zeros(3, 2)}, path, {"crc32": "00000000"})


def take_another_images(path: Path) -> None:
    other = next(one for one in path.parents[1].rglob("*.safetensors") if one != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, cut_short, make_another_file, swap_with_another_model, take_another_images],
)
def test_a_damaged_file_is_noticed_computed_and_kept_again(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, damage: Any,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    expected = gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    path = files_of(cache)[3]
    whole = path.read_bytes()
    damage(path)
    seen = count_images(vit, monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    assert seen == [1]
    assert "damaged" in caplog.text
    assert_same(found, expected)
    torch.testing.assert_close(len(path.read_bytes()), len(whole))
    gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    assert seen == [1]


def fill(folder: Path, data: Path, barrier: Any) -> None:
    """What a process does that fills the cache at the same time as another one."""
    torch.set_num_threads(1)
    cache = ResidualCache(folder, 2**30, "a vit")
    residuals = Residuals(
        backbone(registers=2, seed=3),
        LAYER,
        Loader(open_dataset(data, "training", PATCH), 1),
        cache,
    )
    barrier.wait()
    for _ in residuals:
        pass


def test_two_processes_may_fill_it_at_once(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, tiny_world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    context = multiprocessing.get_context("fork")  # a spawned one loads torch for seconds
    barrier = context.Barrier(2)
    writers = [
        context.Process(target=fill, args=(cache.folder, tiny_world.data, barrier))
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    seen = count_images(vit, monkeypatch)
    found = gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    assert seen == []
    assert_same(found, gathered(Residuals(vit, LAYER, Loader(dataset, 4))))
    assert [path for path in cache.folder.rglob("*") if path.suffix == ".part"] == []


def test_the_size_is_known_before_anything_is_written(
    vit: Backbone, dataset: Dataset, cache: ResidualCache
) -> None:
    entry = cache.entry(vit, LAYER, dataset)
    gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    sizes = {path.stat().st_size for path in files_of(cache)}
    assert 0.9 * entry.n_bytes < max(sizes) <= entry.n_bytes


def test_a_disk_without_room_is_refused_and_the_run_goes_on(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    n_bytes = 7 * cache.entry(vit, LAYER, dataset).n_bytes
    Usage = namedtuple("Usage", ["free"])
    other = backbone(registers=2, seed=4)  # what was kept for it before could make room
    gathered(Residuals(other, LAYER, Loader(dataset, 4), cache))
    old = cache.entry(other, LAYER, dataset).path
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(n_bytes - 1))
    residuals = Residuals(vit, LAYER, Loader(dataset, 4), cache)
    with caplog.at_level(logging.WARNING):
        found = gathered(residuals)
    assert not residuals.is_kept
    assert len(files_of(cache)) == 7  # in use a short while ago: it stays
    assert "--no-cache" in caplog.text
    assert_same(found, gathered(Residuals(vit, LAYER, Loader(dataset, 4))))
    os.utime(old / "entry.json", (1000, 1000))
    gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))
    assert len(files_of(cache)) == 7
    assert not old.exists()


def test_a_disk_that_fills_up_ends_the_keeping_only(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from semseg_cli.models import residual_cache

    write = residual_cache.write_atomic
    written: list[Path] = []

    def filling(path: Path, data: bytes, option: str) -> None:
        if len(written) == 3:
            raise cannot_write(path, OSError(28, "No space left on device"), option)
        written.append(path)
        write(path, data, option)

    monkeypatch.setattr(residual_cache, "write_atomic", filling)
    residuals = Residuals(vit, LAYER, Loader(dataset, 2), cache)
    with caplog.at_level(logging.WARNING):
        found = gathered(residuals)
    assert not residuals.is_kept
    assert len(files_of(cache)) == 3
    assert caplog.text.count("No more residuals are kept") == 1
    assert_same(found, gathered(Residuals(vit, LAYER, Loader(dataset, 2))))


def test_a_file_in_the_way_is_no_reason_to_stop(
    vit: Backbone, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "residuals").write_text("in the way")
    cache = ResidualCache(tmp_path / "residuals", 2**30, "a vit")
    residuals = Residuals(vit, LAYER, Loader(dataset, 2), cache)
    assert len(gathered(residuals)["tokens"]) == 7
    assert not residuals.is_kept


def sized(cache: ResidualCache, vit: Backbone, dataset: Dataset, n_images: float) -> ResidualCache:
    """The same folder with room for so many images."""
    n_bytes = CacheEntry(cache.folder, vit, dataset, {}).n_bytes
    return replace(cache, max_bytes=int(n_images * n_bytes))


def test_the_entry_that_was_not_used_for_longest_goes_first(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache = sized(cache, vit, dataset, 21)
    entries = {}
    for age, layer in enumerate((1, 2, 3)):
        residuals = Residuals(vit, layer, Loader(dataset, 4), cache)
        gathered(residuals)
        entries[layer] = cache.entry(vit, layer, dataset).path
        os.utime(entries[layer] / "entry.json", (1000 + age, 1000 + age))
    assert len(kept_entries(cache.folder)) == 3
    gathered(Residuals(vit, 1, Loader(dataset, 4), cache))  # used once more
    other = backbone(registers=2, seed=4)
    with caplog.at_level(logging.WARNING):
        gathered(Residuals(other, 1, Loader(dataset, 4), cache))
    assert caplog.text.count("Removed residuals") == 1
    left = {kept.path for kept in kept_entries(cache.folder)}
    assert left == {entries[1], entries[3], cache.entry(other, 1, dataset).path}
    assert sum(kept.n_bytes for kept in kept_entries(cache.folder)) <= cache.max_bytes


def test_what_is_larger_than_the_limit_is_not_kept_and_nothing_goes_for_it(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, caplog: pytest.LogCaptureFixture
) -> None:
    few = dataset.subset([0, 1, 2])
    gathered(Residuals(vit, 1, Loader(few, 4), sized(cache, vit, dataset, 6.5)))
    residuals = Residuals(vit, LAYER, Loader(dataset, 4), sized(cache, vit, dataset, 6.5))
    with caplog.at_level(logging.WARNING):
        gathered(residuals)
    assert not residuals.is_kept
    assert "--cache-limit" in caplog.text
    assert len(files_of(cache)) == 3
    # What is known of a set that is too large is still read.
    again = Residuals(vit, 1, Loader(dataset, 4), sized(cache, vit, dataset, 6.5))
    assert len(gathered(again)["tokens"]) == 7
    assert len(files_of(cache)) == 3


def test_what_is_in_use_stays(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache = sized(cache, vit, dataset, 10)
    gathered(Residuals(vit, 1, Loader(dataset, 4), cache))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not Residuals(vit, 2, Loader(dataset, 4), cache).is_kept
    assert caplog.text.count("are in use") == 1  # told once
    assert len(kept_entries(cache.folder)) == 1  # no empty one
    assert cache.entry(vit, 1, dataset).n_missing() == 0


def test_files_of_images_that_are_no_more_make_room_for_new_ones(
    tmp_path: Path, tiny_world: World, vit: Backbone, cache: ResidualCache
) -> None:
    root = tmp_path / "ade20k"
    shutil.copytree(tiny_world.data, root)
    first = open_dataset(root, "training", PATCH)
    cache = sized(cache, vit, first, 9)
    gathered(Residuals(vit, LAYER, Loader(first, 4), cache))
    for path in sorted((root / "annotations" / "training").iterdir()):
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    second = open_dataset(root, "training", PATCH)
    gathered(Residuals(vit, LAYER, Loader(second, 4), cache))
    assert cache.entry(vit, LAYER, second).n_missing() == 0
    assert len(files_of(cache)) < 14
    (kept,) = kept_entries(cache.folder)
    assert kept.n_bytes <= cache.max_bytes


def test_files_that_another_process_removes_meanwhile_do_no_harm(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered(Residuals(vit, LAYER, Loader(dataset.subset([2, 3, 4, 5, 6]), 4), cache))
    listed = cache_folders._files

    def removed_once_listed(entry: Path) -> list[os.DirEntry[str]]:
        found = list(listed(entry))
        for file in found[:2]:
            os.unlink(file)
        return found

    monkeypatch.setattr(cache_folders, "_files", removed_once_listed)
    few = dataset.subset([0])
    residuals = Residuals(vit, LAYER, Loader(few, 4), sized(cache, vit, few, 20))
    assert len(gathered(residuals)["tokens"]) == 1
    assert residuals.is_kept


def test_only_the_images_of_this_process_need_room(
    vit: Backbone, dataset: Dataset, cache: ResidualCache
) -> None:
    cache = sized(cache, vit, dataset, 4)
    assert not Residuals(vit, LAYER, Loader(dataset, 4), cache).is_kept
    own = Loader(dataset, 4, positions=range(2, 5))
    assert gathered(Residuals(vit, LAYER, own, cache))["positions_b"].tolist() == [2, 3, 4]
    assert len(files_of(cache)) == 3


def test_a_file_that_cannot_be_read_now_is_computed_and_stays(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache))

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("semseg_cli.models.residual_cache.safe_open", failing)
    assert_same(gathered(Residuals(vit, LAYER, Loader(dataset, 4), cache)), expected)
    assert len(files_of(cache)) == 7


def test_an_entry_that_goes_away_meanwhile_is_computed(
    vit: Backbone, dataset: Dataset, cache: ResidualCache
) -> None:
    expected = gathered(Residuals(vit, LAYER, Loader(dataset, 2), cache))
    residuals = Residuals(vit, LAYER, Loader(dataset, 2), cache)
    tokens = []
    for number, (_, tokens_bnd) in enumerate(residuals):
        if number == 1:
            shutil.rmtree(cache.folder)
        tokens.append(tokens_bnd.clone())
    torch.testing.assert_close(torch.cat(tokens), expected["tokens"], rtol=1e-5, atol=1e-6)
    (left,) = kept_entries(cache.folder)
    assert left.n_images == 3  # of the batches after it
    assert left.about["layer"] == LAYER


def test_statistics_from_kept_residuals_need_no_scratch_file(
    vit: Backbone, dataset: Dataset, cache: ResidualCache, tiny: Session, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sae, loader = tiny.pipeline.sae, Loader(dataset, 3)
    expected = compute_stats(Residuals(vit, LAYER, loader), sae).to_tensors()
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    seen = count_images(vit, monkeypatch)
    found: SaeStats = compute_stats(Residuals(vit, LAYER, loader, cache), sae, None, tmp_path / "s")
    assert seen == [3, 3, 1]
    for name, tensor in found.to_tensors().items():
        assert torch.equal(tensor, expected[name]), name


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_tiny_world(tmp_path_factory.mktemp("cached"))


def result_of(terminal: Terminal) -> dict[str, Any]:
    report = json.loads((terminal.runs()[-1] / "report.json").read_text("utf-8"))
    lookup = terminal.runs()[-1] / "lookup.csv"
    return {**report, "lookup": lookup.read_text("utf-8") if lookup.exists() else None}


@pytest.mark.parametrize(
    "args",
    [
        ["auto-feat"],
        ["auto-feat", "--select", "causal"],
        ["auto-feat", "--protocol", "label"],
        ["rand-feat", "--match", "none"],
        ["rand-vec"],
        ["mean-diff"],
    ],
)
def test_results_are_the_same_without_a_cache_and_the_first_and_second_time(
    own_world: World, terminal: Terminal, args: list[str], tmp_path: Path,
) -> None:  # fmt: skip
    caches = {"--no-cache": tmp_path / "none", "first": tmp_path / "c", "second": tmp_path / "c"}
    results = []
    for name, folder in caches.items():
        words = [*args, *options(own_world, cache_dir=str(folder)), "--no-track", "--no-plots"]
        done = terminal.type(*words, *(["--no-cache"] if name == "--no-cache" else []))
        assert done.code == 0, done.err
        results.append(result_of(terminal))
    assert results[0] == results[1] == results[2]
    assert not residuals_folder(tmp_path / "none").exists()
    assert kept_entries(residuals_folder(tmp_path / "c"))


def test_a_head_is_trained_on_kept_residuals(
    own_world: World, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"vit_ckpt": str(own_world.folder / "vit"), "imgs_root": str(own_world.data)}
    words = [part for key, value in named.items() for part in (f"--{key.replace('_', '-')}", value)]
    words += ["--no-track", "--epochs", "2", "--batch-size", "4"]
    first, later = ["--cache-dir", str(tmp_path / "a")], ["--cache-dir", str(tmp_path / "b")]
    assert terminal.type("train-head", *words, *first).code == 0
    filled = options(own_world, cache_dir=str(tmp_path / "b"))
    assert terminal.type("auto-feat", *filled, "--no-track", "--no-plots").code == 0
    n_entries = len(kept_entries(tmp_path / "b" / "activations"))

    def refused(*_: object) -> Tensor:
        raise AssertionError("the ViT ran")

    monkeypatch.setattr(Backbone, "prefix", refused)
    for place in (first, later):  # the last layer is kept; an earlier one is
        done = terminal.type("train-head", *words, *place)
        assert done.code == 0, done.err
    swept = [
        (run / "sweep.csv").read_text() for run in terminal.runs() if (run / "sweep.csv").exists()
    ]
    assert len(swept) == 3
    assert len(set(swept)) == 1
    assert len(kept_entries(tmp_path / "b" / "activations")) == n_entries


def test_entries_are_listed_and_cleared(
    own_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    place = ["--cache-dir", str(tmp_path / "c")]
    assert "0 entries" in terminal.type("cache", "list", *place).out
    args = options(own_world, cache_dir=str(tmp_path / "c"))
    terminal.type("auto-feat", *args, "--no-track", "--no-plots")
    listed = json.loads(terminal.type("cache", "list", *place, "--format", "json").out)["rows"]
    assert [(row["images_of"].split()[-1], row["n_images"]) for row in listed] == [
        ("validation", 6), ("training", 7),
    ]  # fmt: skip
    assert all(row["layer"] == 2 and row["dtype"] == "float32" for row in listed)
    table = terminal.type("cache", "list", *place).out
    assert max(map(len, table.splitlines())) <= 80
    for row in listed:
        assert row["id"] in table
    for one in ("nothing", ""):  # an unset variable must not clear everything
        wrong = terminal.type("cache", "clear", listed[0]["id"], one, *place)
        assert (wrong.code, wrong.err.count("\n")) == (2, 1)
        assert "nothing was removed" in wrong.err
    assert terminal.type("cache", "clear", listed[0]["id"], *place).code == 0
    (left,) = json.loads(terminal.type("cache", "list", *place, "--format", "json").out)["rows"]
    assert left["id"] == listed[1]["id"]
    stats = list((tmp_path / "c" / "stats").iterdir())
    foreign = residuals_folder(tmp_path / "c") / "my-notes"
    foreign.mkdir()
    assert "Removed 1 entry" in terminal.type("cache", "clear", *place).err
    assert "0 entries" in terminal.type("cache", "list", *place).out
    assert foreign.is_dir()
    assert list((tmp_path / "c" / "stats").iterdir()) == stats != []

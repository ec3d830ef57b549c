"""The demo world: drawn the same everywhere, completely or not at all, and exported whole."""

import hashlib
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg_cli.demo import scene_files, world
from semseg_cli.demo.canvas import Canvas
from semseg_cli.demo.noise import make_tiles, sine
from semseg_cli.demo.scene_files import generate
from semseg_cli.demo.scenes import make_scene
from semseg_cli.demo.textures import CLASS_NAMES, TEXTURES
from semseg_cli.errors import SemsegError

# If these change, cached worlds and shipped weights are of another world: raise
# GENERATOR_VERSION, and run `semseg-cli demo build` unless the change is invisible.
PIXEL_HASHES = {
    (0, "training", 0): "8080d8c04ef22720",
    (0, "training", 5): "09f58a963312a118",
    (0, "validation", 0): "fe43dc5aa7624493",
    (1, "training", 7): "b8808c0624bc845f",
    (1, "validation", 3): "aaf9422c9e4a33ee",
    (2016, "training", 249): "dd95ed759df90c8e",
}


def pixel_hash(seed: int, split: str, index: int) -> str:
    scene = make_scene(seed, split, index)
    pixels = scene.image.tobytes() + scene.labels.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:16]


@pytest.mark.parametrize(("key", "expected"), PIXEL_HASHES.items())
def test_a_scene_has_the_same_pixels_on_every_machine(key, expected):
    assert pixel_hash(*key) == expected


def test_a_scene_depends_on_seed_split_and_index():
    keys = [(1, "training", 0), (2, "training", 0), (1, "validation", 0), (1, "training", 1)]
    assert len({pixel_hash(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_texture_paints_its_own_id_and_finite_colours(name):
    canvas = Canvas(np.random.default_rng(3), make_tiles(3))
    canvas.paint(name, canvas.everywhere())
    assert (canvas.labels == CLASS_NAMES.index(name) + 1).all()
    assert np.isfinite(canvas.image).all()
    assert canvas.image.std() > 0.001


def test_painting_an_empty_region_changes_nothing():
    canvas = Canvas(np.random.default_rng(3), make_tiles(3))
    canvas.paint("sky", canvas.box(5, 5, 5, 5))
    assert not canvas.labels.any()


def test_the_sine_table_is_a_sine():
    turns = np.array([0, 0.25, 0.5, -0.25, 7.125])
    np.testing.assert_allclose(sine(turns), np.sin(2 * np.pi * turns), atol=1e-4)


def test_scenes_lie_in_the_ade20k_layout(tmp_path):
    root = generate(tmp_path / "w", 3, 2, seed=5, n_workers=2)
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert files == [
        "annotations/training/ADE_train_00000001.png",
        "annotations/training/ADE_train_00000002.png",
        "annotations/training/ADE_train_00000003.png",
        "annotations/validation/ADE_val_00000001.png",
        "annotations/validation/ADE_val_00000002.png",
        "images/training/ADE_train_00000001.jpg",
        "images/training/ADE_train_00000002.jpg",
        "images/training/ADE_train_00000003.jpg",
        "images/validation/ADE_val_00000001.jpg",
        "images/validation/ADE_val_00000002.jpg",
        "objectInfo150.txt",
    ]
    with Image.open(root / files[0]) as mask, Image.open(root / files[5]) as image:
        assert (mask.mode, image.mode) == ("L", "RGB")
        assert mask.size == image.size
        expected = make_scene(5, "training", 0).labels
        assert mask.tobytes() == expected.tobytes()


def test_the_class_file_counts_images_and_shares_pixels(tmp_path):
    root = generate(tmp_path / "w", 8, 4, seed=5, n_workers=1)
    header, *rows = (root / "objectInfo150.txt").read_text().splitlines()
    assert header.split("\t") == ["Idx", "Ratio", "Train", "Val", "Name"]
    cells = [row.split("\t") for row in rows]
    assert [(int(c[0]), c[4]) for c in cells] == list(enumerate(CLASS_NAMES, start=1))
    assert 0.9 < sum(float(c[1]) for c in cells) <= 1.001
    masks = [make_scene(5, "training", i).labels for i in range(8)]
    assert int(cells[0][2]) == sum(1 in np.asarray(mask) for mask in masks)


def test_the_world_shows_every_class_and_other():
    labels = [np.asarray(make_scene(world.WORLD_SEED, "training", i).labels) for i in range(60)]
    assert {int(v) for mask in labels for v in np.unique(mask)} == set(range(len(TEXTURES) + 1))


def test_any_worker_count_writes_the_same_files(tmp_path):
    one = generate(tmp_path / "one", 3, 2, seed=5, n_workers=1)
    three = generate(tmp_path / "three", 3, 2, seed=5, n_workers=3)
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (three / path.relative_to(one)).read_bytes()


def test_a_world_draws_the_scenes_of_a_larger_one(tmp_path):
    small = generate(tmp_path / "small", 2, 1, seed=5, n_workers=1)
    large = generate(tmp_path / "large", 3, 2, seed=5, n_workers=1)
    for path in (small / "images").rglob("*.jpg"):
        assert path.read_bytes() == (large / path.relative_to(small)).read_bytes()


def record_progress():
    seen = []

    def progress(description, total, unit="images"):
        seen.append(total)
        return seen.append

    return progress, seen


@pytest.mark.parametrize("n_workers", [1, 2])
def test_progress_adds_up_to_all_scenes(tmp_path, n_workers):
    progress, seen = record_progress()
    generate(tmp_path / "w", 4, 2, seed=5, n_workers=n_workers, progress=progress)
    assert seen[0] == 6
    assert sum(seen[1:]) == 6


def test_a_finished_world_is_not_drawn_again(tmp_path):
    root = generate(tmp_path / "w", 1, 1, seed=5, n_workers=1)
    progress, seen = record_progress()
    assert generate(root, 1, 1, seed=5, progress=progress) == root
    assert not seen


def test_an_error_while_drawing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene_files, "write_scene", fail)
    with pytest.raises(SemsegError, match=r"No space left on device.*--cache-dir"):
        generate(tmp_path / "w", 2, 1, seed=5, n_workers=1)
    assert [p.name for p in tmp_path.iterdir()] in ([], ["w.lock"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs the command `false`")
def test_an_error_in_a_worker_is_told_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(SemsegError, match=r"cannot write the demo scenes .* with status 1"):
        generate(tmp_path / "w", 2, 1, seed=5, n_workers=2)
    assert not (tmp_path / "w").exists()


def test_leftovers_of_an_interrupted_run_are_removed(tmp_path):
    (tmp_path / "w.part-abc" / "images").mkdir(parents=True)
    generate(tmp_path / "w", 1, 1, seed=5, n_workers=1)
    assert not list(tmp_path.glob("*.part-*"))


# A process started in the background ignores SIGINT from birth, and so would its children.
GENERATE = """
import signal
from pathlib import Path
from semseg_cli.demo.scene_files import generate
signal.signal(signal.SIGINT, signal.default_int_handler)
generate(Path({folder!r}), {n_train}, 2, seed=5, n_workers=2)
"""


def start(folder: Path, n_train: int) -> subprocess.Popen[bytes]:
    code = GENERATE.format(folder=str(folder), n_train=n_train)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def test_two_first_runs_at_once_are_safe(tmp_path):
    runs = [start(tmp_path / "w", 6) for _ in range(2)]
    assert [run.communicate()[1] for run in runs] == [b"", b""]
    assert [run.returncode for run in runs] == [0, 0]
    assert len(list((tmp_path / "w/images/training").iterdir())) == 6
    assert not list(tmp_path.glob("*.part-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_broken(tmp_path, signum):
    run = start(tmp_path / "w", 2000)
    while not list(tmp_path.glob("*.part-*/images/training/*.jpg")):
        time.sleep(0.02)
    run.send_signal(signum)
    noise = run.communicate()[1].decode()
    assert noise.count("Traceback") <= 1, "workers must not report the interruption too"
    assert not (tmp_path / "w").exists()
    generate(tmp_path / "w", 2, 1, seed=5, n_workers=1)
    assert len(list((tmp_path / "w/images/training").iterdir())) == 2


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    monkeypatch.setattr(world, "N_TRAIN", 2)
    monkeypatch.setattr(world, "N_VAL", 1)
    return tmp_path / "cache"


def test_the_cache_folder_names_every_parameter(tmp_path, monkeypatch):
    names = {world.world_folder(tmp_path).name}
    for parameter in ("GENERATOR_VERSION", "WORLD_SEED", "N_TRAIN", "N_VAL"):
        with monkeypatch.context() as patch:
            patch.setattr(world, parameter, 7)
            names.add(world.world_folder(tmp_path).name)
    assert len(names) == 5


def test_export_writes_everything(small_world, tmp_path):
    folder = world.export(tmp_path / "out", small_world)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "ade20k", "demo.toml", "head.pt", "sae.pt", "stats.safetensors", "vit",
    ]  # fmt: skip
    assert (folder / "vit" / "model.safetensors").is_file()
    assert len(list((folder / "ade20k/images/training").iterdir())) == 2


def test_the_exported_settings_are_the_presets_with_paths_beside_the_file(small_world, tmp_path):
    folder = world.export(tmp_path / "out", small_world)
    exported = tomllib.loads((folder / "demo.toml").read_text())
    preset = tomllib.loads(
        (Path(world.__file__).parents[1] / "settings/presets/demo.toml").read_text()
    )
    assert exported.keys() == preset.keys()
    moved = {key for key in preset if exported[key] != preset[key]}
    assert moved == {
        "vit_ckpt", "sae_ckpt", "seg_ckpt", "act_mean", "act_norm", "sparsity", "top_values",
        "imgs_root",
    }  # fmt: skip
    assert all((folder / exported[key]).exists() for key in moved)


def test_export_into_an_empty_folder_works(small_world, tmp_path):
    (tmp_path / "out").mkdir()
    assert (world.export(tmp_path / "out", small_world) / "demo.toml").is_file()


def test_export_refuses_a_filled_folder_and_a_file(small_world, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(SemsegError, match="is not empty: give a new or empty folder"):
        world.export(tmp_path / "out", small_world)
    with pytest.raises(SemsegError, match="is a file: give a new or empty folder"):
        world.export(tmp_path / "out" / "mine.txt", small_world)
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug")])
def test_an_interrupted_export_leaves_no_folder(tmp_path, error):
    with pytest.raises(type(error)), world.written_whole(tmp_path / "out"):
        raise error
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_and_a_given_folder_stays(tmp_path):
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(SemsegError, match=r"cannot write .*out \(No space left on device\)"),
        world.written_whole(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert not list((tmp_path / "out").iterdir())


def test_the_shipped_files_fit_each_other():
    from semseg_cli.models import sae
    from semseg_cli.models.head import load_head
    from semseg_cli.models.sae.statistics import NAMES, load_stat
    from semseg_cli.models.vit import load_vit

    files = world.shipped_files()
    vit, autoencoder, head = load_vit(str(files.vit)), sae.load(files.sae), load_head(files.head)
    stats = {name: load_stat(name, str(files.stats)) for name in NAMES}
    assert vit.d_model == autoencoder.d_model == head.in_features == len(stats["act_mean"])
    assert head.n_classes == len(CLASS_NAMES)
    assert autoencoder.d_sae == len(stats["sparsity"]) == len(stats["top_values"])
    assert 0 < float(stats["sparsity"].max()) < 0.5, "the preset's max_freq excludes no latent"
    n_bytes = sum(p.stat().st_size for p in files.folder.rglob("*") if p.is_file())
    assert n_bytes < 4_000_000


def test_scaling_the_residual_stream_keeps_every_output_bit():
    import torch

    from semseg_cli.commands.demo_build import residual_scale
    from semseg_cli.models.vit import load_vit

    vit = load_vit(str(world.shipped_files().vit))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    before, stream = vit.model(pixel_values=images).last_hidden_state, vit.prefix(images, 3)
    with torch.no_grad():
        residual_scale._scale(vit.model, 64.0)
    assert torch.equal(vit.prefix(images, 3), 64 * stream)
    assert torch.equal(vit.model(pixel_values=images).last_hidden_state, before)
    residual_scale.normalise_residual(vit.model, images, layer=3)
    assert torch.equal(vit.model(pixel_values=images).last_hidden_state, before)
    patches = vit.prefix(images, 3)[:, vit.n_prefix_tokens :].flatten(0, 1)
    assert 0.7 < float((patches - patches.mean(0)).square().mean().sqrt()) < 1.42


def test_the_recipe_runs_end_to_end(tmp_path):
    from semseg_cli.commands.demo_build.recipe import Recipe, build
    from semseg_cli.commands.demo_build.train_sae import SaeRecipe
    from semseg_cli.commands.demo_build.train_vit import VitRecipe

    tiny = Recipe(4, 3, 2, VitRecipe(n_steps=4, crop_batch=2, full_batch=1), SaeRecipe(n_steps=3))
    folder = build(tmp_path / "out", seed=1, recipe=tiny)
    shipped = {p.name for p in world.shipped_files().folder.iterdir()}
    extras = {"README.md", "ade20k", "demo.toml"}
    assert {p.name for p in folder.iterdir()} == shipped | extras

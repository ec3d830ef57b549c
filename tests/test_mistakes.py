"""Bad input: each known mistake gives its exit code and one sentence, and leaves nothing behind."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import Terminal, options
from worlds import World, make_head, make_sae

from semseg_cli.errors import FileError
from semseg_cli.files import expanded
from semseg_cli.models import sae as saes
from semseg_cli.models.head import save_head
from semseg_cli.runs import folder as runs

Damage = Callable[[World], None]


@pytest.fixture
def world(known_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A copy of the known world, to be damaged."""
    folder = tmp_path_factory.mktemp("damaged") / "world"
    shutil.copytree(known_world.folder, folder)
    return World(folder, known_world.vit_layer, folder / "stats.safetensors")


def image(world: World, split: str = "validation") -> Path:
    return world.data / "images" / split / f"{split}_0000.png"


def mask(world: World, split: str = "validation") -> Path:
    return world.data / "annotations" / split / f"{split}_0000.png"


# --- wrong options: exit code 2 -------------------------------------------------------------------

WRONG_OPTIONS = {
    "scale beyond 10": ({"scale": "11"}, "--scale is 11.0: give a number from -10 to 10"),
    "scale NaN": ({"scale": "nan"}, "--scale is nan: give a finite number"),
    "scale infinite": ({"scale": "inf"}, "--scale is inf: give a finite number"),
    "no images": ({"images": "0"}, "--images is 0: give a number of at least 1"),
    "batch of none": ({"batch_size": "0"}, "--batch-size is 0"),
    "no memory": ({"memory_budget": "0"}, "--memory-budget is 0.0: give a number above 0"),
    "threshold above 1": ({"label_threshold": "1.5"}, "--label-threshold is 1.5"),
    "frequency of 0": ({"max_freq": "0"}, "--max-freq is 0.0: give a number"),
    "unknown class": (
        {"class": "wal"},
        "The class 'wal' is not in the dataset: did you mean wall?",
    ),
    "unknown preset": ({"preset": "demon"}, "There is no preset 'demon': did you mean demo?"),
    "missing input": ({"sae_ckpt": ""}, "Missing --sae-ckpt: name it, or take --preset demo"),
    "missing input beside a bad path": (
        {"sae_ckpt": "", "seg_ckpt": "/none/head.pt"},
        "There is no --seg-ckpt /none/head.pt. Missing --sae-ckpt: name it",
    ),
    "missing head": (
        {"seg_ckpt": ""},
        "Missing --seg-ckpt: name it, or take --preset demo. `semseg-cli train-head` makes a head",
    ),
    "unknown choice": ({"protocol": "foo"}, "'foo' is not one of"),
    "too many workers": ({"workers": "100000"}, "--workers is 100000: give a number from 0 to 256"),
    "batch beyond all memory": ({"batch_size": str(10**12)}, "--batch-size is 1000000000000: give"),
    "memory beyond all": ({"memory_budget": "1e300"}, "--memory-budget is 1e+300: give a number"),
    "no whole number": ({"images": "1.5"}, "'1.5' is not a whole number."),
    "no number": ({"label_threshold": "half"}, "'half' is not a number."),
    "command for a number": (
        {"images": "\x1b[2K"},
        r"'\x1b[2K' is not a whole number",
    ),
    "command for a choice": ({"protocol": "\x1b[2K"}, r"'\x1b[2K' is not one of"),
    "digits": ({"images": "9" * 400}, "--images has too many digits"),
    "tag that MLflow refuses": ({"tag": "cost$=3"}, "--tag has the key 'cost$': give letters"),
    "tag of MLflow": ({"tag": "mlflow.user=me"}, "--tag has the key 'mlflow.user': mlflow. and"),
    "tag of ours": ({"tag": "semseg.kind=x"}, "--tag has the key 'semseg.kind'"),
    "tag that is a path": ({"tag": "a/../b=x"}, "--tag has the key 'a/../b'"),
    "tag without value": ({"tag": "x"}, "--tag is 'x': give it as KEY=VALUE"),
}


@pytest.mark.parametrize("option", ["--system-metrics", "--log-class-metrics"])
def test_what_is_only_tracked_needs_tracking(option: str, terminal: Terminal) -> None:
    done = terminal.type("rand-vec", option, "--no-track")
    assert (done.code, done.out) == (2, "")
    assert f"Invalid value: {option} is about tracking: leave out --no-track." in done.err


def test_system_metrics_say_what_they_need(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semseg_cli.settings.output.find_spec", lambda name: None)
    done = terminal.type("rand-vec", "--system-metrics")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("--system-metrics needs psutil: run `pip install psutil`.\n")
    assert terminal.runs() == []


@pytest.mark.parametrize(("changes", "sentence"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS.keys())
def test_a_wrong_option_exits_2(
    changes: dict[str, str], sentence: str, known_world: World, terminal: Terminal
) -> None:
    done = terminal.type("auto-feat", *options(known_world, **changes))
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err
    assert terminal.runs() == []


@pytest.mark.parametrize(
    "words", [["\x1b[2K"], ["lookup", "--\x1b[2K"], ["lookup", "\x1b[2K"], ["cache", "\x1b[2K"],
              ["cache", "list", "--format", "\x1b[2K"], ["ui", "--port", "\x1b[2K"]]
)  # fmt: skip
def test_what_was_typed_cannot_command_the_terminal(words: list[str], terminal: Terminal) -> None:
    done = terminal.type(*words)
    assert (done.code, done.out) == (2, "")
    assert "\x1b" not in done.err
    assert r"\x1b[2K" in done.err


TOML = {
    "unknown key": ("scal = 2", "has the unknown key 'scal': did you mean scale?"),
    "wrong type": ("batch_size = 'two'", "has batch_size = 'two': expected int"),
    "wrong list": ("scale = ['a']", "has scale = 'a': expected float or int"),
}


@pytest.mark.parametrize(("text", "sentence"), TOML.values(), ids=TOML.keys())
def test_a_wrong_settings_file_exits_2(
    text: str, sentence: str, known_world: World, terminal: Terminal
) -> None:
    (terminal.folder / "my.toml").write_text(text)
    done = terminal.type("auto-feat", *options(known_world, config="my.toml"))
    assert done.code == 2
    assert sentence in done.err


def test_an_unknown_option_exits_2(terminal: Terminal) -> None:
    assert terminal.type("auto-feat", "--scales", "2").code == 2


# --- files that are missing or do not fit: exit code 1 --------------------------------------------

MISSING = {
    "vit_ckpt": "The ViT folder ./no does not exist",
    "sae_ckpt": "The SAE file no cannot be read (No such file or directory): check --sae-ckpt",
    "seg_ckpt": "The head no cannot be read (No such file or directory): check --seg-ckpt",
    "imgs_root": "The dataset folder no does not exist: check --imgs-root",
    "act_mean": "The statistic act_mean cannot be read: no cannot be read (No such file",
    "act_norm": "The statistic act_norm cannot be read: no cannot be read (No such file",
    "sparsity": "The statistic sparsity cannot be read: no cannot be read (No such file",
    "top_values": "The statistic top_values cannot be read: no cannot be read (No such file",
    "lookup": "The lookup no.csv cannot be read",
    "config": "The settings file no cannot be read (No such file or directory): check --config",
}


@pytest.mark.parametrize("option", MISSING)
def test_every_missing_path_names_itself(
    option: str, known_world: World, terminal: Terminal
) -> None:
    path = {"lookup": "no.csv", "vit_ckpt": "./no"}.get(option, "no")
    done = terminal.type("auto-feat", *options(known_world, **{option: path}))
    assert (done.code, done.out) == (1, "")
    assert MISSING[option] in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", [*MISSING, "stats", "dump_to", "cache_dir"])
def test_the_home_of_nobody_is_told(option: str, known_world: World, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", *options(known_world, **{option: "~nosuch/x"}))
    assert (done.code, done.out) == (1, "")
    assert "~nosuch/x cannot be found (there is no user nosuch): give the whole path." in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_an_unknown_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: str) -> str:
        return path

    monkeypatch.setattr("os.path.expanduser", unknown)
    with pytest.raises(
        FileError, match=r"^~/x cannot be found \(the home folder of ~ is not known"
    ):
        expanded("~/x")


def remove(path: Callable[[World], Path]) -> Damage:
    return lambda world: path(world).unlink()


def too_small(world: World) -> None:
    Image.new("L", (20, 20)).save(mask(world))


def colourful(world: World) -> None:
    Image.new("RGB", (256, 256)).save(mask(world))


def label_9(world: World) -> None:
    Image.fromarray(np.full((256, 256), 9, np.uint8)).save(mask(world))


def cut_image(world: World) -> None:
    data = image(world).read_bytes()
    image(world).write_bytes(data[: len(data) // 2])


def empty_split(world: World) -> None:
    for part in ("images", "annotations"):
        shutil.rmtree(world.data / part / "validation")
        (world.data / part / "validation").mkdir()


def no_split(world: World) -> None:
    shutil.rmtree(world.data / "images" / "validation")


def deeper(world: World) -> None:
    world.data.rename(world.folder / "inner")
    world.data.mkdir()
    (world.folder / "inner").rename(world.data / "ADEChallengeData2016")


def narrow_sae(world: World) -> None:
    saes.save(world.folder / "sae.pt", make_sae(d_model=12))


def nan_sae(world: World) -> None:
    sae = saes.load(world.folder / "sae.pt")
    sae.W_enc[0, 0] = float("nan")
    saes.save(world.folder / "sae.pt", sae)


def cut_sae(world: World) -> None:
    data = (world.folder / "sae.pt").read_bytes()
    (world.folder / "sae.pt").write_bytes(data[:-500])


def pickled_sae(world: World) -> None:
    with (world.folder / "sae.pt").open("wb") as file:
        file.write(b"{}\n")
        torch.save({"model": torch.nn.Linear(2, 2)}, file)


def narrow_head(world: World) -> None:
    save_head(world.folder / "head.pt", make_head(d_model=12))


def other_head(world: World) -> None:
    save_head(world.folder / "head.pt", make_head(d_model=16, n_classes=9))


def no_weights(world: World) -> None:
    (world.folder / "vit" / "model.safetensors").unlink()


def no_config(world: World) -> None:
    (world.folder / "vit" / "config.json").unlink()


def no_labels(world: World) -> None:
    for path in (world.data / "annotations" / "training").iterdir():
        Image.new("L", (256, 256)).save(path)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "image without mask": (remove(mask), "validation_0000.png has no mask"),
    "mask without image": (remove(image), "validation_0000.png has no image"),
    "mask of another size": (too_small, "is 20 x 20 pixels, its image 256 x 256"),
    "mask of another mode": (colourful, "has mode 'RGB', expected an 8-bit one"),
    "label beyond the classes": (label_9, "holds label 9, but there are 5 classes"),
    "corrupt image": (cut_image, "validation_0000.png cannot be read"),
    "empty split": (empty_split, "The split 'validation' of"),
    "missing split": (no_split, "has no split 'validation', only training"),
    "root too shallow": (deeper, "did you mean"),
    "SAE of another width": (narrow_sae, "The SAE reads width 12, the ViT has width 16"),
    "SAE with NaN": (nan_sae, "W_enc holds NaN or infinite weights"),
    "SAE cut": (cut_sae, "holds no readable tensors"),
    "SAE pickled": (
        pickled_sae,
        "a plain state dict of tensors: write it with torch.save",
    ),
    "head of another width": (narrow_head, "The head reads width 12, the ViT has width 16"),
    "head of other classes": (other_head, "The head knows 9 classes (and null), the dataset 5"),
    "ViT without weights": (no_weights, "cannot be loaded"),
    "ViT without config": (no_config, "has no config.json"),
    "no class with support": (no_labels, "No class has a latent"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_bad_file_exits_1_with_one_sentence(
    damage: Damage, sentence: str, world: World, terminal: Terminal
) -> None:
    damage(world)
    done = terminal.type("auto-feat", *options(world), "--quiet")
    assert (done.code, done.out) == (1, "")
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    for folder in terminal.runs():  # found while computing: then the run says so
        assert json.loads((folder / "run.json").read_text())["status"] == "FAILED"


def test_a_root_one_level_too_deep_is_told(world: World, terminal: Terminal) -> None:
    args = options(world, imgs_root=str(world.data / "images"))
    done = terminal.type("auto-feat", *args)
    assert done.code == 1
    assert f"did you mean {world.data}?" in done.err


@pytest.mark.parametrize("layer", ["3", "12"])
def test_a_layer_out_of_range_is_told(layer: str, world: World, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", *options(world, vit_layer=layer))
    assert done.code == 1
    assert f"Layer {layer} does not exist: the ViT has layers 1 to 2" in done.err


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sparsity": [0.1] * 3}, "sparsity has shape (3,), expected (15,)"),
        (
            {"top_values": [float("nan")] * 15},
            "stats.json cannot be read (no JSON: it holds NaN",
        ),
        ({"act_norm": 0.0}, "act_norm must be one number above 0"),
    ],
)
def test_bad_statistics_are_told(
    values: dict[str, object], sentence: str, world: World, terminal: Terminal
) -> None:
    (terminal.folder / "stats.json").write_text(json.dumps(values))
    named = dict.fromkeys(values, "stats.json")
    done = terminal.type("auto-feat", *options(world, **named))
    assert done.code == 1
    assert sentence in done.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("class_name,latent\nlion,1\n", "the class 'lion' is not in the dataset"),
        ("class_id,latent\n9,1\n", "class id '9' is not one of 1 to 5"),
        ("class_id,latent\n1,15\n", "latent '15' is not one of 0 to 14"),
        ("class_id,latent\n1,2\n1,2\n", "latent 2 is there twice for wall"),
        ("class_id,latent,coefficient\n1,2,9\n", "times the scale is beyond 10 times"),
        ("a,b\n1,2\n", "it lacks the column latent, it has a, b"),
    ],
)
def test_a_bad_lookup_is_told(text: str, sentence: str, world: World, terminal: Terminal) -> None:
    (terminal.folder / "mine.csv").write_text(text)
    done = terminal.type("auto-feat", *options(world, lookup="mine.csv"))
    assert done.code == 1
    assert sentence in done.err
    assert terminal.runs() == []  # told before a run begins


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_cuda_is_told(world: World, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", *options(world, device="cuda"))
    assert done.code == 1
    assert "CUDA is not available" in done.err


# --- where results go -----------------------------------------------------------------------------


def test_an_unwritable_results_folder_is_told(world: World, terminal: Terminal) -> None:
    (terminal.folder / "taken").write_text("a file, no folder")
    done = terminal.type("auto-feat", *options(world, dump_to="taken"))
    assert done.code == 1
    assert "Cannot write taken" in done.err
    assert "--dump-to" in done.err


def test_an_unreachable_store_is_found_before_the_model_loads(
    world: World, terminal: Terminal
) -> None:
    weights = world.folder / "vit" / "model.safetensors"
    weights.write_bytes(b"cut")  # would be the error, were it read first
    args = options(world, tracking_uri="http://127.0.0.1:9")
    done = terminal.type("auto-feat", *args)
    assert done.code == 1
    assert "http://127.0.0.1:9" in done.err
    assert terminal.runs() == []


def test_a_full_disk_fails_the_run_with_one_sentence(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "per_image" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(runs.Path, "write_bytes", full)
    done = terminal.type("auto-feat", *options(world))
    assert done.code == 1
    assert "per_image.parquet (No space left on device): free some space" in done.err
    (folder,) = terminal.runs()
    assert json.loads((folder / "run.json").read_text())["status"] == "FAILED"
    assert not list(folder.glob(".*.part"))


def test_a_bug_keeps_its_traceback(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("semseg_cli.commands.method_runs.write_outcome", broken)
    with pytest.raises(ZeroDivisionError):
        terminal.type("auto-feat", *options(world))
    (folder,) = terminal.runs()
    meta = json.loads((folder / "run.json").read_text())
    assert (meta["status"], meta["reason"]) == ("FAILED", "a bug")

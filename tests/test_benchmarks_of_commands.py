"""The benchmarks of whole commands and of large runs, at a small size. No time is asserted."""

import sqlite3
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
import torch
from _pytest.capture import CaptureFixture

from benchmarks.__main__ import COMMANDS, main
from benchmarks.heads import AllPixels, trained
from benchmarks.many_runs import copy_runs
from benchmarks.whole import make_files
from benchmarks.whole import parser as whole_parser
from semseg_cli.commands.train_head.features import TrainingPatches, ValidationImages
from semseg_cli.commands.train_head.sweep import Sweep
from semseg_cli.experiment.session import open_session
from semseg_cli.progress import silent
from semseg_cli.settings.inputs import Imgs, Setup
from semseg_cli.settings.training import Training


def make_rows(store: Path) -> None:
    """The columns that copies change, of two runs."""
    with closing(sqlite3.connect(store)) as db:
        db.execute("CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, start_time INTEGER)")
        for table in ("params", "tags", "latest_metrics"):
            db.execute(f"CREATE TABLE {table} (key TEXT, value TEXT, run_uuid TEXT)")
        for i, run in enumerate(("a", "b")):
            db.execute("INSERT INTO runs VALUES (?, ?, ?)", (run, run, i))
            db.execute("INSERT INTO params VALUES ('scale', '-2.0', ?)", (run,))
            db.execute("INSERT INTO params VALUES ('seed', ?, ?)", (str(i), run))
        db.commit()


def test_runs_are_copied_in_turn_at_other_scales(tmp_path: Path) -> None:
    make_rows(tmp_path / "mlflow.db")
    copy_runs(tmp_path / "mlflow.db", 8, 2)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        ids = [row[0] for row in db.execute("SELECT run_uuid FROM runs")]
        pairs = db.execute("SELECT run_uuid, key, value FROM params WHERE key = 'seed'").fetchall()
        scales = [row[0] for row in db.execute("SELECT value FROM params WHERE key = 'scale'")]
    assert len(set(ids)) == 8
    assert sorted(value for _, _, value in pairs) == ["0"] * 4 + ["1"] * 4
    assert sorted(scales) == sorted(["-2.0"] * 2 + ["-1.0", "-2.0", "-1.0"] * 2)


def test_the_parts_of_a_large_run_are_told(capsys: CaptureFixture[str]) -> None:
    small = {"--classes": 3, "--latents": 64, "--images": 60, "--lookup-images": 9, "--steps": 2}
    main(["large", *(str(word) for pair in small.items() for word in pair)])
    told = capsys.readouterr().out
    assert "3 classes, 64 latents, 9 lookup images, 60 images" in told
    for part in ("counts by class", "ten best latents", "written", "read again", "intervals"):
        assert part in told


@pytest.mark.parametrize("seed", range(3))
def test_both_sides_find_the_same_head_where_a_pixel_is_a_part(seed: int) -> None:
    """Then the coarse mIoU is that of all pixels, so that nothing may differ."""
    draw = torch.Generator().manual_seed(seed)
    means_cd = torch.randn(4, 6, generator=draw)
    labels_n = torch.randint(1, 4, (80,), generator=draw)
    x_nd = means_cd[labels_n] + torch.randn(80, 6, generator=draw)
    modes_bt = torch.randint(1, 4, (5, 4), generator=draw)
    x_btd = means_cd[modes_bt] + torch.randn(5, 4, 6, generator=draw)
    labels_bij = modes_bt.unflatten(1, (2, 2)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    patches = TrainingPatches(x_nd, labels_n)
    images = ValidationImages(x_btd, labels_bij.to(torch.uint8), (2, 2))
    training = Training(lr=(0.3, 0.03), weight_decay=(0.01,), epochs=6, patches_per_step=16)
    sides = [
        side(training.rates, 6, 3, seed, training.patience, torch.device("cpu"))
        for side in (AllPixels, Sweep)
    ]
    one, other = (trained(sweep, training, patches, images) for sweep in sides)
    assert (one.lr, one.epoch, one.miou) == (other.lr, other.epoch, other.miou)


def test_the_readers_of_a_whole_world_know_its_classes(tmp_path: Path) -> None:
    given = whole_parser().parse_args(["--classes", "12", "--images", "6", "--lookup-images", "6"])
    make_files(tmp_path, given)
    setup = Setup(
        vit_ckpt=str(tmp_path / "vit"), vit_layer=2, image_size=56, device="cpu", n_workers=0,
        sae_ckpt=str(tmp_path / "sae.pt"), seg_ckpt=str(tmp_path / "head.pt"),
        act_mean=str(tmp_path / "stats.safetensors"), act_norm=str(tmp_path / "stats.safetensors"),
        imgs=Imgs(root=tmp_path / "data"), cache_dir=tmp_path / "cache",
    )  # fmt: skip
    session = open_session(setup, silent)
    pipeline, (batch,) = session.pipeline, session.loader(session.dataset)
    found = pipeline.predict(pipeline.residual(batch.images_bchw)).classes_bt
    assert (found == batch.labels_bt).double().mean() > 0.9


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (None, 0), (False, 1)])
def test_a_benchmark_ends_with_1_where_its_promise_fails(
    holds: bool | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.many_runs.many", lambda _: holds)
    ended = 0
    try:
        main(["many"])
    except SystemExit as end:
        ended = int(end.code or 0)
    assert ended == code


def test_every_benchmark_of_its_own_is_there() -> None:
    for name, (place, _) in COMMANDS.items():
        module, function = place.split(":")
        assert callable(getattr(import_module(f"benchmarks.{module}"), function)), name

"""The benchmarks of whole commands and of large runs, at a small size. No time is asserted."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from _pytest.capture import CaptureFixture

from benchmarks.__main__ import main
from benchmarks.heads import AllPixels, trained
from benchmarks.many_runs import copy_runs
from semseg_cli.commands.train_head.features import TrainingPatches, ValidationImages
from semseg_cli.commands.train_head.sweep import Sweep
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

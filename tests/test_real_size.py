"""A run at real size, in a process of its own, stays within the memory that was promised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import semseg_cli
from semseg_cli.models import sae as saes
from semseg_cli.models.head import SegmentationHead, save_head
from semseg_cli.models.sae import SparseAutoencoder

HERE = Path(semseg_cli.__file__).parents[1]  # the process starts elsewhere: it must find this code
MOST_GIB = 6.0
D_MODEL, D_SAE = 768, 24_576
MEASURED = """
import gc, json, sys
from semseg_cli.cli import run
try:
    run(sys.argv[1:])
except SystemExit as ended:
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    peak = int(lines["VmHWM"].split()[0])
    print(json.dumps({"code": ended.code or 0, "peak_gib": peak / 2**20}))
    gc.freeze()
"""


def write_parts(folder: Path) -> None:
    """What dinov2_vitb14_reg, its SAE and a head for ADE20K weigh, with random numbers."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(num_register_tokens=4, image_size=518, patch_size=14)
    Dinov2WithRegistersModel(config).save_pretrained(folder / "vit")
    w_dec = torch.nn.functional.normalize(torch.randn(D_SAE, D_MODEL), dim=1)
    bias = torch.full((D_SAE,), -2.0)
    made = SparseAutoencoder(w_dec.T.contiguous(), bias, w_dec, torch.zeros(D_MODEL))
    saes.save(folder / "sae.pt", made)
    save_head(folder / "head.safetensors", SegmentationHead(D_MODEL, 151))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to read the peak")
def test_real_sizes_fit_in_6_gib(ade20k_sample: Path, tmp_path: Path) -> None:
    write_parts(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "auto-feat", "--vit-ckpt", str(tmp_path / "vit"),
         "--sae-ckpt", str(tmp_path / "sae.pt"), "--seg-ckpt", str(tmp_path / "head.safetensors"),
         "--imgs-root", str(ade20k_sample), "--lookup-split", "validation",
         "--class", "wall", "--class", "sky", "--max-freq", "1", "--no-track", "--quiet",
         "--cache-dir", str(tmp_path / "cache"), "--dump-to", str(tmp_path / "runs")],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["code"] == 0, done.stderr
    print(f"peak: {measured['peak_gib']:.2f} GiB")
    assert measured["peak_gib"] < MOST_GIB
    assert measured["peak_gib"] > 0.4  # what the weights alone take
    (run,) = (tmp_path / "runs").iterdir()
    report = json.loads((run / "report.json").read_text())
    row = report["class_results"][0]
    assert row["n_orig_patches"] + row["n_other_patches"] == 3 * 256

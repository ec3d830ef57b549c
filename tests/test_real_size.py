"""A run at real size, in a process of its own, stays within the memory that was promised."""

import json
from pathlib import Path

import pytest
import torch
from terminal import ended

from benchmarks.campaign.hand import Forked, Job, become
from benchmarks.memory import status
from semseg_cli.models import sae as saes
from semseg_cli.models.head import SegmentationHead, save_head
from semseg_cli.models.sae import SparseAutoencoder

MOST_GIB = 6.0
D_MODEL, D_SAE = 768, 24_576


def measured(job: Job) -> None:
    """Turns this process into the command; it says what memory it had at most."""
    try:
        become(job)
    finally:
        Path("peak.txt").write_text(str(status("VmHWM")))


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
    words = (
        "auto-feat", "--vit-ckpt", "vit", "--sae-ckpt", "sae.pt", "--seg-ckpt", "head.safetensors",
        "--imgs-root", str(ade20k_sample), "--lookup-split", "validation",
        "--class", "wall", "--class", "sky", "--max-freq", "1", "--no-track", "--quiet",
        "--cache-dir", "cache", "--dump-to", "runs",
    )  # fmt: skip
    done = ended(Forked(measured, Job(words, str(tmp_path))), tmp_path)
    assert done.code == 0, done.err
    peak_gib = int((tmp_path / "peak.txt").read_text()) / 2**30
    print(f"peak: {peak_gib:.2f} GiB")
    assert peak_gib < MOST_GIB
    assert peak_gib > 0.4  # what the weights alone take
    (run,) = (tmp_path / "runs").iterdir()
    report = json.loads((run / "report.json").read_text())
    row = report["class_results"][0]
    assert row["n_orig_patches"] + row["n_other_patches"] == 3 * 256

"""From an SAE and a dataset to a report: doctor, stats, train-head, auto-feat."""

import json

from terminal import Terminal, options
from worlds import World


def test_four_commands_lead_from_an_sae_and_a_dataset_to_a_report(
    known_world: World, terminal: Terminal
) -> None:
    base = options(known_world, seg_ckpt="", max_freq="", min_patches="")
    done = terminal.type("doctor", *base)
    assert done.code == 0, done.out
    assert "train-head" in done.out  # the head is missing, and it says how to make one

    assert terminal.type("stats", *base, "--save", "stats.safetensors").code == 0
    # A mosaic's bilinear corners cost some pixels; patches are what counts here.
    sweep = ["--lr", "0.05", "--weight-decay", "0.001", "--epochs", "30", "--patience", "30"]
    own = ("sae_ckpt", "vit_layer", "act_mean", "act_norm")
    vit = options(known_world, seg_ckpt="", max_freq="", min_patches="", **dict.fromkeys(own, ""))
    done = terminal.type("train-head", *vit, *sweep, "--save", "head.safetensors")
    assert done.code == 0, done.err

    names = dict.fromkeys(("act_mean", "act_norm", "sparsity", "top_values"), "stats.safetensors")
    args = options(known_world, seg_ckpt="head.safetensors", **names)
    done = terminal.type("auto-feat", *args)
    assert done.code == 0, done.err
    report = json.loads((terminal.runs()[-1] / "report.json").read_text())
    assert report["metrics"]["target_change"] > 0.9
    assert report["metrics"]["other_change"] < 0.1

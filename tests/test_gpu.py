"""The same counts on a GPU as on a CPU, in float32. Runs only where there is a CUDA device."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from held import OwnSae, held
from worlds import World

import semseg_cli
from semseg_cli.experiment.run import run
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import METHODS, AutoFeat

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    ("method", "protocol"),
    [
        (method, protocol)
        for method in METHODS
        for protocol in method.protocols
        if not method().needs_next_best  # the known world has none
    ],
    ids=lambda one: one if isinstance(one, str) else one.command,
)
def test_a_gpu_counts_what_a_cpu_counts(
    method: type, protocol: Protocol, known_world: World
) -> None:
    settings = method(max_freq=1.0)
    counts = []
    for device in ("cpu", "cuda"):
        session = known_world.session(device=device, protocol=protocol)
        _break_ties(session.pipeline.head)
        (outcome,) = run(session, [settings], {})
        counts.append(outcome.counts)
    on_cpu, on_gpu = counts
    assert torch.equal(on_cpu.per_image, on_gpu.per_image)
    assert torch.equal(on_cpu.matrix, on_gpu.matrix)


def _break_ties(head: torch.nn.Linear | None) -> None:
    """Lets biases decide where rounding would: between classes of one logit, and in patches of
    which an edit leaves nothing but rounding, which the final norm makes some .1 long."""
    assert head is not None
    with torch.no_grad():
        head.bias[1:] += 0.01 * torch.arange(5, device=head.bias.device)
        head.bias[5] += 1.0


def test_objects_on_a_gpu_count_what_they_count_on_a_cpu(known_world: World) -> None:
    parts = {**held(known_world), "sae": OwnSae(known_world)}
    on_cpu = semseg_cli.run("auto-feat", **parts)
    on_gpu = semseg_cli.run("auto-feat", **{**parts, "vit": parts["vit"].cuda()})
    pd.testing.assert_frame_equal(on_gpu.to_frame(), on_cpu.to_frame(), rtol=1e-4)
    assert parts["vit"].device.type == "cuda"
    assert next(parts["sae"].parameters()).device.type == "cpu"


def test_kept_residuals_of_a_gpu_are_read_from_pinned_memory(
    known_world: World, tmp_path: Path
) -> None:
    settings = {"device": "cuda", "no_cache": False, "cache_dir": tmp_path, "n_workers": 2}
    counts = []
    for _ in range(2):
        session = known_world.session(**settings)
        assert session.loader(session.dataset).pin_memory
        (outcome,) = run(session, [AutoFeat(max_freq=1.0)], {})
        counts.append(outcome.counts.per_image)
    on_cpu = run(known_world.session(device="cpu"), [AutoFeat(max_freq=1.0)], {})[0]
    assert torch.equal(counts[0], counts[1])
    assert torch.equal(counts[0], on_cpu.counts.per_image)

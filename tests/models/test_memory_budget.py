"""Memory: what goes through at once, from the budget and the sizes; measured peaks stay within."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import VARIANTS
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import ended
from worlds import World, backbone, make_vit

from benchmarks.campaign.hand import Forked, Job, settle
from semseg_cli.models.memory_budget import (
    GIB,
    LARGEST_ON_CPU,
    Budget,
    Network,
    in_passes,
    make_budget,
)
from semseg_cli.models.vit import Backbone

VITB = Network(
    n_tokens=261, d_model=768, d_hidden=3072, n_score_heads=0, n_pixels=3 * 224 * 224, itemsize=4
)
MIB = 2**20


# --- sizes ----------------------------------------------------------------------------------------


def test_a_vit_base_on_a_cpu_goes_in_passes_that_fit_its_caches() -> None:
    budget = Budget()
    assert budget.images_per_pass(VITB) == 5  # 3.06 MiB each, 16 MiB together
    assert budget.rows_per_pass(VITB, 151) == 5
    assert budget.patches_encoded(24_576) == 170
    assert 64 < budget.images_held(VITB, 150) < 128


def test_half_the_precision_lets_twice_as_many_through() -> None:
    assert Budget().rows_per_pass(replace(VITB, itemsize=2), 151) == 10


def test_a_small_budget_decides_and_something_always_goes_through() -> None:
    unbounded = [Budget(m * MIB, None).rows_per_pass(VITB, 151) for m in (0, 64, 256, 1024)]
    assert unbounded == sorted(set(unbounded))
    assert unbounded[0] == 1
    nothing = Budget(0)
    assert nothing.images_held(VITB) == nothing.images_per_pass(VITB) == 1
    assert nothing.patches_encoded(24_576) == 1


def test_latents_and_directions_take_room_too() -> None:
    budget = Budget(256 * MIB, None)
    assert budget.images_held(VITB, 3000) < budget.images_held(VITB, 150)
    assert budget.rows_per_pass(VITB, 151, 20) < budget.rows_per_pass(VITB, 151, 1)


def test_attention_that_holds_its_scores_counts_them() -> None:
    scores = 3 * 12 * 261**2 * 4
    assert replace(VITB, n_score_heads=12).block_bytes == scores + 6 * 261 * 768 * 4
    assert replace(VITB, n_score_heads=1).block_bytes == VITB.block_bytes  # the MLP holds more


@pytest.mark.parametrize("name", VARIANTS)
def test_the_sizes_are_those_of_the_network(name: str) -> None:
    family, make, _ = VARIANTS[name]
    vit = Backbone(make(), family)
    images = torch.zeros(1, 3, *vit.preprocessing.crop)
    network = vit.network
    assert vit.prefix(images, 1).shape == (1, network.n_tokens, network.d_model)
    assert network.n_pixels == images.numel()
    assert network.d_hidden == 48
    assert network.n_score_heads == 0
    assert network.itemsize == 4


def test_both_halves_of_a_gated_mlp_count() -> None:
    vit = backbone(use_swiglu_ffn=True, mlp_ratio=4)
    assert vit.network.d_hidden == 2 * 64  # two thirds of 4 * 24, twice


def test_eager_attention_is_seen() -> None:
    model = make_vit()
    model.set_attn_implementation("eager")
    assert Backbone(model).network.n_score_heads == 3


# --- what the settings say ------------------------------------------------------------------------


def test_the_budget_of_the_settings_counts_and_a_cpu_has_one_gib_without() -> None:
    cpu = torch.device("cpu")
    assert make_budget(0.25, cpu) == Budget(GIB // 4, LARGEST_ON_CPU)
    assert make_budget(None, cpu) == Budget(GIB, LARGEST_ON_CPU)


@pytest.mark.parametrize(("free", "expected"), [(80, 20), (30, 20), (20, 20), (5, 5)])
def test_a_gpu_gives_a_quarter_of_its_memory_whatever_else_is_there(
    monkeypatch: pytest.MonkeyPatch, free: int, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free * GIB, 80 * GIB))
    assert make_budget(None, torch.device("cuda")) == Budget(expected * GIB, None)
    assert make_budget(3.0, torch.device("cuda")) == Budget(3 * GIB, None)


def test_every_part_of_a_session_obeys_the_settings(tiny_world: World) -> None:
    session = tiny_world.session(memory_budget=0.001, batch_size=1000)
    budget = Budget(int(0.001 * GIB), LARGEST_ON_CPU)
    pipeline = session.pipeline
    assert pipeline.vit.budget == pipeline.sae.budget == budget
    assert pipeline.sae.recentred(True).budget == budget
    held = budget.images_held(pipeline.vit.network, 7)
    assert session.loader(session.dataset, 7).batch_size == held < 1000
    assert tiny_world.session(batch_size=2).loader(session.dataset).batch_size == 2


# --- passes ---------------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_passes_change_nothing_and_are_as_few_and_as_even_as_can_be(n: int, n_most: int) -> None:
    rows = torch.arange(float(n * 3)).view(n, 3)
    seen = []

    def run(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return part[:, :2] * 2

    assert torch.equal(in_passes(run, rows, n_most), rows[:, :2] * 2)
    assert len(seen) == max(1, -(-n // n_most))
    assert max(seen) - min(seen) <= 1


def test_prefix_and_tail_are_the_same_in_any_passes() -> None:
    vit, images = backbone(), torch.randn(5, 3, 224, 224)
    tokens = vit.prefix(images, 2)
    features = vit.tail(tokens, 2)
    n_images: list[int] = []
    vit.blocks[0].register_forward_hook(lambda _m, args, _out: n_images.append(len(args[0])))
    vit.budget = Budget(0)
    torch.testing.assert_close(vit.prefix(images, 2), tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vit.tail(tokens, 2), features, rtol=1e-5, atol=1e-5)
    assert n_images == [1] * 5


# --- measured -------------------------------------------------------------------------------------


WORK = ["class", "label", "lookup"]
LARGE, BOUNDED = "class-512", "class-512-largest"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What memory_peak.py prints."""
    folder = tmp_path_factory.mktemp("peaks")
    tasks = (*(f"{work}-128" for work in WORK), LARGE, BOUNDED)
    done = ended(Forked(measure_peaks, Job(tasks, str(folder))), folder)
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def measure_peaks(job: Job) -> None:
    """Turns this process into that program."""
    tasks = settle(job)
    import memory_peak

    memory_peak.main(tasks)


needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux to read the peak"
)


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize("work", WORK)
def test_memory_grows_by_no_more_than_the_budget(work: str, measured: dict[str, Any]) -> None:
    assert measured[f"{work}-128"]["growth"] < 128 * MIB


@pytest.mark.slow
@needs_linux
def test_a_larger_budget_is_used_and_a_cpu_bounds_single_tensors(
    measured: dict[str, Any],
) -> None:
    small, large, bounded = (measured[task] for task in ("class-128", LARGE, BOUNDED))
    for key in ("images", "rows", "patches"):
        assert small[key] < large[key]
    assert 128 * MIB < large["growth"] < 512 * MIB  # so the test above can fail
    assert bounded["rows"] < large["rows"]
    assert bounded["growth"] < large["growth"]

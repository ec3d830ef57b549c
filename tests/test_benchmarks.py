"""The benchmarks measure what they say: naive finds the engine's counts, floors are the network's
arithmetic, and the one command runs. No time is asserted."""

import io
import json
import math
import runpy
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from torch.utils.flop_counter import FlopCounterMode
from worlds import make_known_world

from benchmarks import cause_planted, faults, floors, memory, naive, ours, several
from benchmarks.__main__ import main
from benchmarks.full import full_tables, jobs, measure_full
from benchmarks.memory import can_reset, peak_of
from benchmarks.planted.plan import TINY as PLANTED_TINY
from benchmarks.rows import Row, rows_of
from benchmarks.scaling import Cost, axes
from benchmarks.sizes import FULL, TINY, VITB
from benchmarks.timing import bare, measure, prepared
from benchmarks.world import LABEL_THRESHOLD, Generated, World, make_world, resized
from semseg_cli.data.batches import Sample
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.flip_rate import flipped_share
from semseg_cli.models import sae as saes
from semseg_cli.settings.entries import flatten

REPOSITORY = Path(__file__).parents[1]
ROWS = rows_of(TINY)
COMPARED = [row for row in ROWS if row.n_differing is not None]
world_of = cache(lambda seed: make_world(TINY, seed=seed))


def found_by_both(row: Row, world: World) -> tuple[Any, Any]:
    assert row.naive is not None
    with prepared(row, world) as ready:
        return row.ours(ready), row.naive(ready)


def named(name: str) -> Row:
    (row,) = (row for row in ROWS if row.name == name)
    return row


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row.name)
def test_naive_counts_what_the_engine_counts(row: Row, seed: int) -> None:
    fast, slow = found_by_both(row, world_of(seed))
    assert row.n_differing is not None
    assert row.n_differing(fast, slow) == 0


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row.name)
def test_a_difference_is_seen(row: Row) -> None:
    fast, slow = found_by_both(row, world_of(0))
    assert row.n_differing is not None
    is_lookup = isinstance(slow, naive.Lookup)
    other = replace(slow, tp=slow.tp + 1) if is_lookup else slow + 1
    assert row.n_differing(fast, other) > 0


def test_edits_change_something() -> None:
    for name in ("rand-vec", "rand-feat", "auto-feat"):
        _, slow = found_by_both(named(name), world_of(0))
        assert 0 < int(slow[0, :, 1].sum()) < int(slow[0, :, 0].sum())


@dataclass(frozen=True)
class Unclean(Generated):
    """A third of the patches shares too few pixels, a third has no label."""

    def __getitem__(self, position: int) -> Sample:
        sample = super().__getitem__(position)
        labels_t, share_t = sample.labels_t.clone(), sample.share_t.clone()
        labels_t[::3] = 0
        share_t[1::3] = LABEL_THRESHOLD - 0.01
        return replace(sample, labels_t=labels_t, share_t=share_t)


def test_unlabelled_and_unclean_patches_count_alike() -> None:
    world = world_of(1)
    world = replace(world, dataset=Unclean(**vars(world.dataset)))
    fast = ours.lookup(world)
    slow = naive.lookup(
        world.pipeline, world.batches, world.present, LABEL_THRESHOLD, TINY.max_freq
    )
    n_clean = int(fast.detections.n.sum())
    assert 0 < int(fast.detections.n[0]) < n_clean < TINY.n_images * TINY.n_patches
    assert torch.equal(fast.detections.tp[1:], slow.tp[1:])
    active_ks = fast.detections.tp.sum(dim=0)
    for class_id in world.present:
        assert torch.equal(active_ks, slow.tp[class_id] + slow.fp[class_id])
        assert (slow.tp + slow.fn)[class_id].unique().tolist() == [fast.detections.n[class_id]]


def test_the_second_time_finds_what_the_first_found() -> None:
    with prepared(named("lookup + 3 x 5"), world_of(0)) as world:
        first, again = ours.everything(world), ours.everything(world)
    (plain,) = (ours.everything(world_of(0)),)
    assert len(first) == 15
    for others in zip(first, again, plain, strict=True):
        counts = [measured.counts.per_image for measured in others]
        assert torch.equal(counts[0], counts[1])
        assert torch.equal(counts[0], counts[2])


# --- the world ------------------------------------------------------------------------------------


def test_the_autoencoder_is_as_sparse_as_the_size_says() -> None:
    world = world_of(0)
    sparsity = world.pipeline.latent_stats.sparsity
    assert float(sparsity.sum()) == pytest.approx(TINY.l0, abs=0.1)
    doubled = resized(world, l0=2 * TINY.l0).pipeline.latent_stats.sparsity
    assert float(doubled.sum()) == pytest.approx(2 * TINY.l0, abs=0.1)


def test_so_many_classes_are_present() -> None:
    for n in (TINY.few, TINY.many):
        assert world_of(0).with_classes(n).present == list(range(1, n + 1))


def test_another_size_is_another_world() -> None:
    made = resized(world_of(0), n_images=2 * TINY.n_images, d_sae=64)
    assert len(made.dataset) == 2 * TINY.n_images
    assert made.pipeline.sae.d_sae == 64


def test_flips_are_counted() -> None:
    exact, other = world_of(0), world_of(1)
    assert flipped_share(exact.pipeline, exact.pipeline, exact.loader) == 0.0
    assert flipped_share(other.pipeline, exact.pipeline, other.loader) > 0.0


# --- floors ---------------------------------------------------------------------------------------


def counted_flops(run: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_floors_are_the_networks_arithmetic() -> None:
    world = make_world(TINY)
    model: Any = world.pipeline.vit.model
    model.set_attn_implementation("eager")  # fused attention is not counted
    n = TINY.n_images
    assert counted_flops(lambda: bare(world)) == n * floors.bare(TINY).flops
    pipeline, batches = world.pipeline, world.batches
    tokens = [pipeline.residual(batch.images_bchw) for batch in batches]
    prefix = counted_flops(lambda: [pipeline.residual(b.images_bchw) for b in batches])
    assert prefix == n * floors.prefix(TINY).flops
    assert counted_flops(lambda: [pipeline.predict(t) for t in tokens]) == (
        n * floors.tail(TINY).flops
    )
    encode = counted_flops(lambda: [pipeline.sae.encode(pipeline.patches(t)) for t in tokens])
    assert encode == n * floors.encoder(TINY, TINY.d_sae).flops


def test_the_design_documents_ratios_follow_from_the_floors() -> None:
    one = floors.bare(VITB).flops
    assert floors.edits(VITB, 1).flops / one == pytest.approx(13 / 12, abs=0.01)
    assert floors.edits(VITB, 15).flops / one == pytest.approx(27 / 12, abs=0.03)
    assert floors.lookup(VITB).flops / one == pytest.approx(11 / 12 + 0.206, abs=0.005)


def test_doubling_is_described_by_exponent_and_share() -> None:
    cost = Cost("images", "lookup", (1, 2, 4), (3.0, 5.0, 9.0))  # 1 + 2 x
    assert cost.exponents == pytest.approx([math.log2(5 / 3), math.log2(9 / 5)])
    assert cost.share == pytest.approx(8 / 9)
    for axis in axes(TINY):
        assert [after / before for before, after in pairwise(axis.values)] == [2, 2]


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not can_reset(), reason="needs a Linux that lets a process forget its peak")
def test_a_peak_is_what_a_run_adds() -> None:
    world, n_bytes = world_of(0), 2**26
    kept: list[torch.Tensor] = []
    peak = peak_of(lambda _: kept.append(torch.ones(n_bytes // 4)), world)
    assert peak == pytest.approx(n_bytes, rel=0.1)
    assert peak_of(lambda _: None, world) < n_bytes / 4  # what is kept is no peak of this one
    peak = peak_of(lambda _: torch.ones(n_bytes // 4).sum(), world)
    assert peak == pytest.approx(n_bytes, rel=0.1)


# --- the command ----------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """What `python -m benchmarks` does, in this process, which has loaded torch."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--threads", "1", *arguments])
    runpy.run_path(str(REPOSITORY / "benchmarks" / "__main__.py"), run_name="__main__")


def test_peaks_of_a_side_come_from_a_process_of_its_own() -> None:
    arguments = ["--size", "tiny", "--threads", "1", "--rows", "rand-vec"]
    peaks = memory.peaks_in_processes(arguments, ["ours"])["ours"]
    assert peaks == {} if not can_reset() else [*peaks] == ["rand-vec"]


def in_this_process(arguments: Sequence[str]) -> dict[str, int]:
    """What the process that measures memory prints: another one takes seconds to load torch."""
    with redirect_stdout(io.StringIO()) as out:
        main(arguments)
    return dict(json.loads(out.getvalue().splitlines()[-1]))


def test_the_one_command_measures_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "_in_process", in_this_process)
    path = tmp_path / "tiny.json"
    run(monkeypatch, "--size", "tiny", "--repeats", "1", "--json", str(path))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    results = json.loads(path.read_text())
    assert {"size", "dtype", "clock", "repeats", "machine", "versions", "rows", "scaling"} == (
        set(results)
    )
    assert results["machine"]["cores"] >= 1
    assert results["versions"]["torch"] == torch.__version__
    assert [row["name"] for row in results["rows"]] == [row.name for row in ROWS]
    for row, made in zip(results["rows"], ROWS, strict=True):
        assert row["name"] in out
        assert all(len(taken) == 1 and taken[0] > 0 for taken in row["seconds"].values())
        if made.floor is not None:
            assert math.isfinite(row["to_bare"])
            assert row["floor_flops"] > 0
            assert math.isfinite(row["gflops_per_second"])
        if made.naive is not None:
            assert math.isfinite(row["to_naive"])
            assert row["n_differing"] == 0
        if can_reset() and made.has_peak:
            assert row["peak_bytes"]["ours"] >= 0
    assert [row["axis"] for row in results["scaling"]] == [axis.name for axis in axes(TINY)]
    assert all(math.isfinite(e) for row in results["scaling"] for e in row["exponents"])


def test_rows_are_chosen_by_name_and_printed_for_a_readme(capsys: Any) -> None:
    arguments = ["--size", "tiny", "--repeats", "1", "--no-memory", "--rows", "rand-*"]
    main([*arguments, "--markdown", "--dtype", "bfloat16"])
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| rand")]
    assert [line.split(" | ")[0] for line in lines] == ["| rand-vec", "| rand-feat"] * 2
    assert "bfloat16 changes the clean class of" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "full"], "There is no CUDA device"),
        (["--size", "tiny", "--rows", "nothing"], "No row matches --rows 'nothing'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=sentence):
        main(arguments)


def test_a_mistake_ends_the_command_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--size", "tiny", "--rows", "nothing")
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: No row matches")


def test_naive_repeats_only_what_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.timing.LONG_SECONDS", 1e-9)
    times = measure(named("rand-vec"), world_of(0), 3, "cpu")
    assert [len(taken) for taken in times.seconds.values()] == [1, 1, 1]


# --- from files -----------------------------------------------------------------------------------


def test_whole_runs_and_stages_are_measured_from_files() -> None:
    size = replace(TINY, n_images=5)
    world = replace(world_of(0), size=size)
    results = measure_full(world, jobs(size), 1, lambda _: None, width_height=(90, 70))
    assert [row["name"] for row in results["rows"]] == [job.name for job in jobs(size)]
    assert all(0 < seconds < math.inf for row in results["rows"] for seconds in row["seconds"])
    names = [stage["name"] for stage in results["stages"]]
    assert names == ["decode", "transfer", "prefix", "encode", "count", "tail"]
    assert all(stage["floor"] > 0 for stage in results["stages"])
    assert all(rate > 0 for rate in results["device"].values())
    runs, stages = full_tables("full", results, size.n_images)
    assert (len(runs.rows), len(stages.rows)) == (5, 6)


def test_the_large_size_is_the_issues() -> None:
    assert (FULL.n_images, FULL.n_classes, FULL.d_sae) == (2000, 150, 24_576)


def test_a_fault_of_a_reader_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: Path) -> None:
        while True:
            pass

    def refusing(_: Path) -> None:
        raise SemsegError("it is damaged")

    kind = faults.Kind("a", tmp_path, lambda at: 1 / 0)
    assert faults.judge(kind, tmp_path) == "traceback"
    assert faults.judge(replace(kind, read=lambda at: None), tmp_path) == "taken"
    assert faults.judge(replace(kind, read=refusing), tmp_path) == "refused"
    monkeypatch.setattr(faults, "MOST_SECONDS", 0.01)
    assert faults.judge(replace(kind, read=endless), tmp_path) == "without end"


def test_a_damaged_file_is_another_and_the_same_for_its_seed() -> None:
    data = b'{"a": 12, "b": [1.5, 2]}' * 20
    made = [faults.damaged(data, np.random.default_rng([0, n])) for n in range(50)]
    assert made == [faults.damaged(data, np.random.default_rng([0, n])) for n in range(50)]
    assert sum(one != data for one in made) >= 45


def test_saes_side_by_side_edit_less_than_half_of_what_each_does_alone(tmp_path: Path) -> None:
    """In edited images, which do not depend on the machine; more SAEs share more."""
    world = make_known_world(tmp_path / "world")
    config = tmp_path / "known.toml"
    given = flatten(world.setup(min_patches=1, act_norm=2.0))
    kept = {k: v for k, v in given.items() if k not in ("cache_dir", "no_cache")}
    config.write_text(tomli_w.dumps({**kept, "max_freq": 1.0}), encoding="utf-8")
    paths = several.disturbed(world.folder, 4)
    assert saes.load(paths[0]).digest != saes.load(paths[1]).digest
    few = ["--peers", "2", "--matched-peers", "2"]
    together = several.cost(config, [paths], few, tmp_path / "together")
    alone = several.cost(config, [paths[:1]], few, tmp_path / "alone")  # each has as many
    assert 0 < together.n_edited < several.AT_MOST * len(paths) * alone.n_edited


# --- causes in planted worlds ---------------------------------------------------------------------


def test_causes_are_counted_by_what_was_planted() -> None:
    values = {"driver": [(0.2, 0.9, 0.9), (0.8, 0.8, 0.8)], "none": [(0.3, 0.1, 0.9)]}
    rows = [
        {"role": role, "f1": 0.0, "f1_3": f1_3, "cause": cause, "full": full}
        for role, of_role in values.items()
        for f1_3, cause, full in of_role
    ]
    counts = {
        row["role"]: tuple(row[key] for key in ("n", "better", "worse", "missed"))
        for row in cause_planted.by_role(rows)
    }
    assert counts == {"driver": (2, 1, 0, 0), "none": (1, 0, 1, 1), "all": (3, 1, 1, 1)}


def test_a_planted_driver_is_found_by_cause() -> None:
    given = cause_planted.parser().parse_args(["--sample", "20"])
    (row,) = (
        row for row in cause_planted.in_world(3, given, PLANTED_TINY, least=1).rows
        if row["class"] == "driver 1"
    )  # fmt: skip
    assert row["cause"] == row["full"] > 0.5

"""The reference API on small and odd inputs, against slow, obvious versions.

Empty, of one element or one image, all null, not contiguous, of any integer or float type.
"""

import csv
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import pstdev
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import (
    Pair,
    World,
    backbone,
    make_head,
    make_sae,
    random_pairs,
    slow_class_counts,
    slow_predict,
    slow_predict_edited,
    write_dataset,
)

from semseg_cli.errors import SemsegError
from semseg_cli.quantitative import (
    ClassResults,
    Quantitative,
    Report,
    SparseAutoencoder,
    argmax_logits,
    compute_class_results,
    eval_auto_feat,
    eval_rand_feat,
    eval_rand_vec,
    get_latent_lookup,
    get_patch_i,
    get_patch_mask,
    main,
    make_dataloader,
    map_range,
    register_hook,
    save,
    unscaled,
)

SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
seeds = st.integers(0, 2**31)


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values, in memory as the layout says."""
    if layout == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "every second":
        return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]
    return tensor


layouts = st.sampled_from(["as it is", "transposed", "every second"])


def whole_numbers(seed: int, shape: tuple[int, ...], least: int, most: int) -> Tensor:
    return torch.randint(least, most + 1, shape, generator=torch.Generator().manual_seed(seed))


# --- predictions to class results -----------------------------------------------------------------


def slow_class_results(orig: Tensor, mod: Tensor, n_classes: int) -> list[ClassResults]:
    pairs = list(zip(orig.flatten().tolist(), mod.flatten().tolist(), strict=True))
    found = []
    for class_id in range(1, n_classes + 1):
        moves = Counter(after for before, after in pairs if before == class_id)
        n_orig, n_same = moves.total(), moves.pop(class_id, 0)
        others = [(before, after) for before, after in pairs if before != class_id]
        n_other_changed = sum(before != after for before, after in others)
        counts = (n_orig, n_orig - n_same, len(others), n_other_changed)
        found.append(ClassResults(class_id, str(class_id), *counts, dict(moves)))
    return found


@st.composite
def prediction_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    n_classes = draw(st.integers(1, 6))
    shape = (draw(st.integers(0, 3)), draw(st.integers(0, 5)))
    most = draw(st.sampled_from([0, n_classes]))  # all null, or anything
    orig, mod = (
        laid_out(whole_numbers(draw(seeds), shape, 0, most), draw(layouts)).to(
            draw(st.sampled_from(SIGNED))
        )
        for _ in range(2)
    )
    return orig, mod, n_classes


@given(prediction_pairs())
def test_class_results_equal_an_obvious_count(made: tuple[Tensor, Tensor, int]) -> None:
    orig, mod, n_classes = made
    found = compute_class_results(orig, mod, n_classes=n_classes)
    assert found == slow_class_results(orig, mod, n_classes)


def test_a_null_patch_is_an_other_one_of_every_class_and_has_no_row() -> None:
    orig, mod = torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 2, 0, 2]])
    assert compute_class_results(orig, mod, class_names=["sand", "sea"]) == [
        ClassResults(1, "sand", 1, 1, 3, 1, {0: 1}),
        ClassResults(2, "sea", 1, 0, 3, 2, {}),
    ]


def test_150_classes_are_listed_even_where_all_is_null_or_nothing_is_there() -> None:
    for shape in ((2, 3), (0, 3), (2, 0), (0, 0)):
        null = torch.zeros(shape, dtype=torch.int32)
        found = compute_class_results(null, null)
        assert [r.class_id for r in found] == list(range(1, 151))
        assert {(r.n_orig_patches, r.n_other_patches) for r in found} == {(0, math.prod(shape))}


def test_names_must_be_as_many_as_classes() -> None:
    one = torch.ones(1, 1, dtype=torch.int64)
    assert [r.class_name for r in compute_class_results(one, one, class_names=["a", "b"])] == [
        "a",
        "b",
    ]
    with pytest.raises(ValueError, match="2 class names: expected 3"):
        compute_class_results(one, one, n_classes=3, class_names=["a", "b"])


@pytest.mark.parametrize("wrong", [-1, 6])
def test_what_is_neither_null_nor_a_class_is_refused(wrong: int) -> None:
    bad, good = torch.tensor([[wrong]]), torch.tensor([[1]])
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=r"from 0 \(null\) to 5"):
            compute_class_results(*pair, n_classes=5)


@given(prediction_pairs())
def test_a_reports_numbers_are_those_of_its_definitions(made: tuple[Tensor, Tensor, int]) -> None:
    orig, mod, n_classes = made
    rows = compute_class_results(orig, mod, n_classes=n_classes)
    report = Report("m", rows, -2.0)
    shares = {
        "target": [(r.n_changed_patches, r.n_orig_patches) for r in rows],
        "other": [(r.n_other_changed, r.n_other_patches) for r in rows],
    }
    row: dict[str, Any] = {"method": "m"}
    for name, pairs in shares.items():
        n_part, n_whole = (sum(column) for column in zip(*pairs, strict=True))
        row[f"{name}_change"] = n_part / n_whole if n_whole else 0.0
        row[f"{name}_std"] = pstdev([part / whole if whole else 0.0 for part, whole in pairs])
    assert report.to_csv_row() == pytest.approx(row, abs=1e-12)


@pytest.mark.parametrize("n_reports", [0, 1, 3])
def test_saved_reports_are_read_back(tmp_path: Path, n_reports: int) -> None:
    rows = compute_class_results(torch.tensor([[1, 2, 0]]), torch.tensor([[2, 2, 1]]))
    reports = [Report(f"m{i}", rows[:i], 1.0) for i in range(n_reports)]
    save(reports, str(tmp_path / "results.csv"))
    with (tmp_path / "results.csv").open() as file:
        read = list(csv.DictReader(file))
    assert read == [{k: str(v) for k, v in report.to_csv_row().items()} for report in reports]


# --- logits, patches, indices ---------------------------------------------------------------------


@given(
    seeds, st.integers(0, 3), st.integers(0, 4), st.integers(2, 5), layouts, st.sampled_from(FLOATS)
)
def test_argmax_is_the_best_class_and_never_null(
    seed: int, b: int, t: int, c: int, layout: str, dtype: torch.dtype
) -> None:
    # Whole numbers, all different in a patch, so that no type rounds two of them together.
    draw = np.random.default_rng(seed)
    drawn = draw.permuted(np.tile(np.arange(c), (b, t, 1)), axis=2)
    logits = laid_out(torch.from_numpy(drawn), layout).to(dtype)
    expected = [[max(range(1, c), key=row.__getitem__) for row in image] for image in drawn]
    found = argmax_logits(logits)
    assert found.shape == (b, t)
    assert found.tolist() == expected


@pytest.mark.parametrize("shape", [(2, 3, 1), (0, 3, 1), (2, 3, 0)])
def test_logits_without_a_class_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{shape[2]} channels"):
        argmax_logits(torch.zeros(shape))


@given(
    seeds,
    st.integers(0, 4),
    st.integers(0, 6),
    st.sampled_from([torch.uint8, torch.int32, torch.int64]),
    layouts,
    st.sampled_from([0, 1 / 3, 0.5, 2 / 3, 0.9, 1, 1.0, 1.1]),
)
@settings(max_examples=200)
def test_the_patch_mask_is_the_share_of_the_commonest_label(
    seed: int, n: int, n_pixels: int, dtype: torch.dtype, layout: str, threshold: float
) -> None:
    least = 0 if dtype == torch.uint8 else -2
    pixels = laid_out(whole_numbers(seed, (n, n_pixels), least, 3).to(dtype), layout)
    shares = [max(Counter(row).values(), default=0) / (n_pixels or 1) for row in pixels.tolist()]
    found = get_patch_mask(pixels, threshold)
    assert (found.dtype, found.shape) == (torch.bool, (n,))
    assert found.tolist() == [share >= threshold for share in shares]


def test_the_extreme_labels_of_uint8_are_labels() -> None:
    pixels = torch.tensor([[255, 255], [0, 255], [0, 0]], dtype=torch.uint8)
    assert get_patch_mask(pixels, 1.0).tolist() == [True, False, True]


@given(seeds, st.integers(0, 3), st.integers(0, 4), st.sampled_from(SIGNED), layouts)
def test_patch_indices_count_patches_row_by_row(
    seed: int, n_images: int, side: int, dtype: torch.dtype, layout: str
) -> None:
    most = int(torch.iinfo(dtype).max) // 2**33 or int(torch.iinfo(dtype).max) - 1
    i = laid_out(whole_numbers(seed, (n_images, side, side), 0, most).to(dtype), layout)
    expected = [
        [[i[b, x, y].item() * side**2 + x * side + y for y in range(side)] for x in range(side)]
        for b in range(n_images)
    ]
    found = get_patch_i(i, side**2)
    assert found.shape == i.shape
    assert found.tolist() == expected


# --- ranges ---------------------------------------------------------------------------------------


def exactly(x: float, domain: tuple[int, int], onto: tuple[int, int]) -> Fraction:
    (a, b), (c, d) = domain, onto
    return c + (Fraction(x) - a) * (d - c) / (b - a)


ends = st.integers(-100, 100)
eighths = st.lists(st.integers(0, 8), max_size=6)


@given(ends, ends, ends, ends, eighths, st.sampled_from([*FLOATS[:1], *FLOATS[2:]]), layouts)
def test_map_range_is_the_linear_map(
    a: int, b: int, c: int, d: int, steps: list[int], dtype: torch.dtype, layout: str
) -> None:
    if a == b:
        return
    domain, onto = (min(a, b), max(a, b)), (c, d)
    values = [domain[0] + (domain[1] - domain[0]) * step / 8 for step in steps]
    wanted = [float(exactly(value, domain, onto)) for value in values]
    x = laid_out(torch.tensor([values], dtype=dtype), layout)
    found = map_range(x, domain, onto)
    assert isinstance(found, Tensor)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    assert found[0].tolist() == pytest.approx(wanted, rel=torch.finfo(dtype).eps, abs=1e-12)
    assert [map_range(value, domain, onto) for value in values] == pytest.approx(wanted, abs=1e-12)
    for value, one in zip(values, wanted, strict=True):
        scalar = map_range(torch.tensor(value, dtype=dtype), domain, onto)
        assert isinstance(scalar, Tensor)
        assert scalar.shape == ()
        assert float(scalar) == pytest.approx(one, rel=torch.finfo(dtype).eps, abs=1e-12)


@given(st.integers(-80, 80), st.integers(0, 6000), st.sampled_from([*FLOATS[:1], *FLOATS[2:]]))
def test_unscaled_multiplies_by_the_maximum(eighths: int, most: int, dtype: torch.dtype) -> None:
    scale = eighths / 8
    found = unscaled(torch.tensor([scale], dtype=dtype), most)
    assert isinstance(found, Tensor)
    rel = torch.finfo(dtype).eps
    assert found.tolist() == pytest.approx([scale * most], rel=rel, abs=1e-9)
    assert unscaled(scale, float(most)) == pytest.approx(scale * most, abs=1e-9)


@pytest.mark.parametrize("x", [math.nextafter(10, 11), -10.5, math.inf, math.nan, 11])
def test_a_number_just_outside_is_outside(x: float) -> None:
    sentence = rf"{float(x)} lies outside the domain \[-10, 10\]"
    given_values: list[Any] = [x, torch.tensor(x, dtype=torch.float64)]
    given_values.append(torch.tensor([[0.0, x]], dtype=torch.float64).T)
    for value in given_values:
        with pytest.raises(ValueError, match=sentence):
            map_range(value, (-10, 10), (0, 1))


@pytest.mark.parametrize("domain", [(1, 1), (-math.inf, math.inf), (1.0, math.inf)])
def test_a_domain_without_a_length_is_refused(domain: tuple[float, float]) -> None:
    for x in (1.0, torch.ones(2), torch.ones(0)):
        with pytest.raises(ValueError, match="has no length"):
            map_range(x, domain, (0, 1))


# --- the model, hooked ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_images", [1, 3])
@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("layout", ["as it is", "transposed", "every second"])
def test_a_hooked_model_is_prefix_edit_tail(layer: int, layout: str, n_images: int) -> None:
    vit = backbone(registers=2, seed=4)
    draw = torch.Generator().manual_seed(layer)
    images = laid_out(torch.randn(n_images, 3, 224, 224, generator=draw), layout)

    def hook(patches: Tensor) -> Tensor:
        return laid_out(patches * 0.5 + 1, "every second").double()

    tokens = vit.prefix(images, layer)
    with torch.inference_mode():
        tokens[:, vit.n_prefix_tokens :].mul_(0.5).add_(1)
    with register_hook(vit, hook, layer, 49), torch.no_grad():
        hooked = vit.model(images).last_hidden_state[:, vit.n_prefix_tokens :]
    torch.testing.assert_close(hooked, vit.tail(tokens, layer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut", [np.s_[:, 1:], np.s_[:1], np.s_[..., :1], np.s_[:, :0]])
def test_a_hook_that_changes_the_shape_is_refused(cut: Any) -> None:
    vit = backbone()
    with (
        register_hook(vit, lambda patches: patches[cut], 1, 49),
        pytest.raises(ValueError, match=r"the hook gave shape .* of shape \(2, 49, 24\)"),
    ):
        vit.prefix(torch.zeros(2, 3, 224, 224), 2)


@pytest.mark.parametrize("shape", [(24,), (1, 24), (0, 24), (2, 0, 24), (2, 3, 24)])
@pytest.mark.parametrize("layout", ["as it is", "transposed", "every second"])
def test_the_autoencoder_takes_any_batch(shape: tuple[int, ...], layout: str) -> None:
    sae = make_sae()
    x = laid_out(torch.randn(shape, generator=torch.Generator().manual_seed(0)), layout)
    x_hat, f_x, loss = sae(x)
    assert (x_hat.shape, f_x.shape) == (shape, (*shape[:-1], 40))
    rows = [sae.b_enc + row @ sae.W_enc for row in x.reshape(-1, 24)]
    slow = torch.stack([row.relu() for row in rows]) if rows else torch.zeros(0, 40)
    torch.testing.assert_close(f_x.reshape(-1, 40), slow)
    back = slow @ sae.W_dec + sae.b_dec
    torch.testing.assert_close(x_hat.reshape(-1, 24), back)
    if rows:
        assert float(loss) == pytest.approx(float((back - x.reshape(-1, 24)).square().mean()))


# --- lookup and evaluation ------------------------------------------------------------------------


def null(pairs: list[Pair]) -> list[Pair]:
    return [(image, np.zeros_like(mask)) for image, mask in pairs]


WORLDS = {"three": random_pairs(3, 5), "one": random_pairs(1, 6), "null": null(random_pairs(2, 7))}


@pytest.fixture(scope="module", params=WORLDS)
def small(
    request: pytest.FixtureRequest, tiny_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Quantitative:
    """The tiny world's models over few images, which are both splits; and one without labels."""
    pairs, root = WORLDS[request.param], tmp_path_factory.mktemp(request.param)
    write_dataset(root, {"training": pairs, "validation": pairs})
    cfg = tiny_world.quantitative()
    return replace(cfg, imgs=replace(cfg.imgs, root=root))


def slow_lookup(
    cfg: Quantitative, sae: SparseAutoencoder, shares_of_maximum: tuple[float, ...] = ()
) -> list[int]:
    """The best latent per class, latent by latent, from the whole model's residuals."""
    vit, kept, labels, shares = backbone(registers=2, seed=3), [], [], []
    for batch in make_dataloader(cfg):

        def keep(patches: Tensor) -> Tensor:
            kept.append(patches)
            return patches

        with register_hook(vit, keep, cfg.vit_layer, 49), torch.inference_mode():
            vit.model(batch.images_bchw)
        labels += batch.labels_bt.flatten().tolist()
        shares += batch.share_bt.flatten().tolist()
    x = torch.cat(kept).reshape(-1, 24)
    mean = x.mean(dim=0)
    norm = float((x - mean).norm(dim=1).mean()) / 24**0.5
    f = sae.encode((x - mean) / norm)
    clean = [n for n, share in enumerate(shares) if share >= cfg.label_threshold]
    best = {class_id: (0.0, -1) for class_id in range(6)}
    for latent in range(sae.d_sae):
        if not 0 < float((f[:, latent] > 0).float().mean()) < cfg.max_freq:
            continue
        for class_id in range(1, 6):
            for threshold in shares_of_maximum or (0.0, 0.1, 0.3, 1.0):
                unit = f[:, latent].max() if shares_of_maximum else torch.ones(())
                is_on = [float(f[n, latent] / unit) > threshold for n in clean]
                is_own = [labels[n] == class_id for n in clean]
                n_hits = sum(a and b for a, b in zip(is_on, is_own, strict=True))
                n_named = sum(is_on) + sum(is_own)
                f1 = 2 * n_hits / n_named if n_named else 0.0
                if f1 > best[class_id][0]:
                    best[class_id] = (f1, latent)
    return [latent for _, latent in best.values()]


@pytest.mark.parametrize(
    "changes", [{}, {"label_threshold": 0.5, "max_freq": 0.2}, {"label_threshold": 1.0}]
)
def test_the_lookup_is_the_best_f1_of_every_latent(small: Quantitative, changes: Any) -> None:
    cfg = replace(small, **changes)
    sae = make_sae(seed=3)
    expected = slow_lookup(cfg, sae)
    found = get_latent_lookup(cfg, sae, make_dataloader(cfg))
    assert found.tolist() == expected
    assert (max(expected) >= 0) == ("null" not in str(cfg.imgs.root))


@pytest.mark.parametrize("small", ["three", "one"], indirect=True)
@pytest.mark.parametrize("protocol", ["class", "label"])
def test_an_evaluation_of_few_images_counts_what_the_whole_model_predicts(
    small: Quantitative, tiny_world: World, protocol: Any
) -> None:
    cfg = replace(small, protocol=protocol, scale=-3.0)
    loader = make_dataloader(cfg)
    lookup = torch.tensor(slow_lookup(cfg, make_sae(seed=3), cfg.threshold))
    latents = {c: int(latent) for c, latent in enumerate(lookup.tolist()) if latent >= 0}
    assert latents
    report = eval_auto_feat(cfg, make_sae(seed=3), make_head(seed=3), loader)
    pipeline = tiny_world.session(imgs=cfg.imgs, lookup_split=cfg.imgs.split).pipeline
    if protocol == "class":
        expected = slow_class_counts(pipeline, loader, latents, -3.0)
    else:
        (batch,) = loader
        wanted = lookup[batch.labels_bt]  # entry 0 is -1: unlabelled patches stay as they are
        mod = slow_predict_edited(pipeline, batch.images_bchw, wanted, -3.0)
        rows = slow_class_results(slow_predict(pipeline, batch.images_bchw), mod, 5)
        expected = [(r.class_id, counts(r)) for r in rows if r.class_id in latents]
    assert [(r.class_id, counts(r)) for r in report.class_results] == expected


def counts(row: ClassResults) -> list[int]:
    return [
        row.n_orig_patches,
        row.n_changed_patches,
        row.n_other_patches,
        row.n_other_changed,
    ]


def test_without_labels_the_controls_run_and_no_class_has_a_latent(
    tiny_world: World, tmp_path: Path
) -> None:
    pairs = WORLDS["null"]
    write_dataset(tmp_path / "data", {"training": pairs, "validation": pairs})
    cfg = tiny_world.quantitative(dump_to=tmp_path / "out", protocol="label", scale=-3.0)
    cfg = replace(cfg, imgs=replace(cfg.imgs, root=tmp_path / "data"))
    parts = (make_sae(seed=3), make_head(seed=3), make_dataloader(cfg))
    assert eval_rand_vec(cfg, *parts).n_patches == 98
    # Each patch gets the latent of its own class: an unlabelled one none.
    assert eval_rand_feat(cfg, *parts).mean_other_change == 0.0
    for refused in (lambda: eval_auto_feat(cfg, *parts), lambda: main(cfg)):
        with pytest.raises(SemsegError, match="No class has a latent"):
            refused()
    assert not (tmp_path / "out" / "results.csv").exists()

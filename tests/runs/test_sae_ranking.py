"""Ranks of autoencoders: as far as the test tells, and no further."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from run_folders import make_folder

from semseg_cli.runs.dictionaries import Dictionary, named, rank
from semseg_cli.runs.folder import MATCHED_FILE, NULLS_FILE, PER_IMAGE_FILE, SETTINGS_FILE
from semseg_cli.runs.inference import Calibrated, calibrated_difference, calibrated_score, holm
from semseg_cli.runs.per_image import COUNTED, read_matched_draws
from semseg_cli.show.dictionary_ranking import ranking_table, verdict

N_IMAGES, N_NULLS, CLASSES = 40, 8, (1, 2, 3, 4, 5, 6)
IMAGES = [f"i{i:02d}" for i in range(N_IMAGES)]
ORIG = default_rng(0).integers(0, 40, (N_IMAGES, len(CLASSES)))


def counted(orig: np.ndarray, effect: float, seed: int) -> np.ndarray:
    draw = default_rng(seed)
    spread = np.clip(effect + draw.normal(0, 0.1, orig.shape), 0, 1)
    changed, rest = draw.binomial(orig, spread), draw.binomial(256 - orig, 0.05)
    return np.stack([orig, changed, 256 - orig, rest], axis=-1)


def frame(counts_bc4: np.ndarray, class_ids: Sequence[int]) -> pd.DataFrame:
    n = len(class_ids)
    return pd.DataFrame(
        {
            "image": pd.Categorical(np.repeat(IMAGES, n), categories=IMAGES),
            "class_id": np.tile(np.array(class_ids), N_IMAGES),
            **dict(zip(COUNTED, counts_bc4.reshape(-1, 4).T, strict=True)),
        }
    )


Make = Callable[..., Dictionary]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run of a dictionary with evidence, of edits with some effect."""

    def made(
        name: str,
        effect: float,
        seed: int,
        null: str = "none",
        layer: int = 1,
        class_ids: Sequence[int] = CLASSES,
        n_nulls: int = N_NULLS,
    ) -> Dictionary:
        (tmp_path / name).mkdir()
        folder = make_folder(tmp_path / name)
        columns = [c - 1 for c in class_ids]
        orig = ORIG[:, columns]
        own = counted(orig, effect, seed)
        nulls = np.stack([counted(orig, 0.1, 100 * seed + i) for i in range(n_nulls)])
        sampled = frame(nulls.sum(axis=0), class_ids)
        rows = [
            {"null": "matched", "draw": i, "class_id": c, **dict(zip(COUNTED, four, strict=True))}
            for i, counts_c4 in enumerate([own.sum(axis=0), *nulls.sum(axis=1)])
            for c, four in zip(class_ids, counts_c4.tolist(), strict=True)
        ]
        folder.write(PER_IMAGE_FILE, frame(own, class_ids).to_parquet())
        folder.write(MATCHED_FILE, sampled[sampled[COUNTED[0]] > 0].to_parquet())
        folder.write(NULLS_FILE, pd.DataFrame(rows).to_parquet())
        settings = f'vit_layer = {layer}\ncontrol = "{null}"\nsae_ckpt = "saes/{name}.pt"\n'
        folder.write(SETTINGS_FILE, settings.encode())
        return Dictionary(name, folder)

    return made


def calibrated(one: Dictionary) -> Calibrated:
    """What the files of a run hold, the obvious way."""
    own, matched = (pd.read_parquet(one.folder.path / f) for f in (PER_IMAGE_FILE, MATCHED_FILE))
    nulls = pd.read_parquet(one.folder.path / NULLS_FILE)
    shaped = []
    for table in (own, matched):
        counts = np.zeros((N_IMAGES, len(CLASSES), 4), dtype=np.int64)
        for row in table.to_dict("records"):
            place = IMAGES.index(row["image"]), CLASSES.index(row["class_id"])
            counts[place] = [row[name] for name in COUNTED]
        shaped.append(counts)
    draws = np.zeros((N_NULLS, len(CLASSES), 4), dtype=np.int64)
    for row in nulls[nulls.draw > 0].to_dict("records"):
        draws[row["draw"] - 1, CLASSES.index(row["class_id"])] = [row[name] for name in COUNTED]
    return Calibrated(shaped[0], shaped[1], draws)


def test_scores_and_p_values_are_those_of_the_counts_in_the_files(make: Make) -> None:
    dictionaries = [make("a", 0.5, 1), make("b", 0.9, 2), make("c", 0.52, 3)]
    found = rank(dictionaries)
    by_name = {one.name: calibrated(one) for one in dictionaries}
    names = [one.name for one in found.dictionaries]
    assert names[0] == "b"
    for name, score in zip(names, found.scores, strict=True):
        assert score == calibrated_score(by_name[name])
    pairs = list(found.differences)
    gaps = [calibrated_difference(by_name[names[i]], by_name[names[j]]) for i, j in pairs]
    values = [found.differences[pair].interval.value for pair in pairs]
    assert values == pytest.approx([gap.interval.value for gap in gaps])
    adjusted = holm([gap.test.p for gap in gaps])
    assert [found.p_values[pair] for pair in pairs] == pytest.approx(adjusted)


def test_only_what_the_test_tells_apart_has_another_rank(make: Make) -> None:
    found = rank([make("a", 0.5, 1), make("b", 0.9, 2), make("c", 0.5, 3)])
    assert found.dictionaries[0].name == "b"
    assert found.ranks == (1, 2, 2)
    assert [row["rank"] for row in found.rows] == ["1", "2=", "2="]
    assert verdict(found) == "b is first: the test tells it from all others."
    assert ranking_table(found).best == (0, "score")


def test_none_is_first_where_the_test_does_not_say_so(make: Make) -> None:
    found = rank([make("a", 0.5, 1), make("b", 0.5, 2), make("null", 0.5, 3, null="random")])
    assert found.ranks == (1, 1, 1)
    said = verdict(found)
    assert said.startswith("The test does not tell the first apart")
    assert "Null SAEs are among them." in said
    table = ranking_table(found)
    assert table.best is None
    assert {number for number, _ in table.strong} == {0, 1, 2}


def test_p_against_null_saes_is_the_largest_of_their_layer(make: Make) -> None:
    found = rank([
        make("own", 0.9, 1, layer=3),
        make("pca", 0.5, 2, null="pca", layer=3),
        make("random", 0.3, 3, null="random", layer=3),
        make("elsewhere", 0.95, 4, null="random", layer=6),
    ])  # fmt: skip
    row = next(row for row in found.rows if row["dictionary"] == "own")
    assert row["p_null"] == max(row["p_pca"], row["p_random"])
    assert row["p_null"] < 0.05
    assert row["p_shuffled"] is None
    assert [row["p_null"] for row in found.rows if row["null_sae"]] == [None] * 3


def test_an_sae_below_a_null_sae_is_not_better_than_nulls(make: Make) -> None:
    found = rank([make("own", 0.3, 1), make("pca", 0.9, 2, null="pca")])
    (row,) = [row for row in found.rows if row["dictionary"] == "own"]
    assert row["p_null"] == 1.0
    assert row["rank"] == "2"
    assert verdict(found).startswith("A null SAE is first")


def test_a_class_without_a_latent_counts_as_zero(make: Make) -> None:
    whole, half = make("whole", 0.8, 1), make("half", 0.8, 2, class_ids=(1, 2, 3))
    found = rank([whole, half])
    names = [one.name for one in found.dictionaries]
    assert names == ["whole", "half"]
    assert found.n_latents == (6, 3)
    three = calibrated_score(calibrated(half).of(np.array([True] * 3 + [False] * 3)))
    assert found.scores[1].value == pytest.approx((three.value or 0) / 2)
    notes = " ".join(ranking_table(found).notes)
    assert "with one: half (3)" in notes


def test_the_order_of_dictionaries_does_not_matter(make: Make) -> None:
    dictionaries = [make("a", 0.5, 1), make("b", 0.9, 2), make("c", 0.7, 3)]
    assert rank(dictionaries).rows == rank(dictionaries[::-1]).rows


def test_one_alone_has_no_rank_and_too_few_nulls_no_test(make: Make) -> None:
    alone = rank([make("a", 0.5, 1)])
    assert verdict(alone) == "One dictionary alone has no rank."
    few = rank([make("b", 0.5, 1, n_nulls=1), make("c", 0.9, 2, n_nulls=1)])
    assert verdict(few).startswith("Nothing is ranked: no test between any two dictionaries (1 nul")
    assert [row["rank"] for row in few.rows] == ["1=", "1="]


def test_layers_are_named_where_there_are_several(make: Make) -> None:
    found = rank([make("a", 0.9, 1, layer=3), make("b", 0.5, 2, layer=6)])
    assert verdict(found) == "a of layer 3 is first: the test tells it from all others."


def test_a_dictionary_is_called_by_its_file_or_its_kind(make: Make) -> None:
    assert named(make("one", 0.5, 1).folder).name == "one.pt"
    assert named(make("two", 0.5, 1, null="shuffled").folder).name == "permuted decoder"
    assert named(make("three", 0.5, 1).folder, "given").name == "given"


def test_damaged_counts_of_nulls_are_one_sentence(make: Make) -> None:
    data = (make("a", 0.5, 1).folder.path / NULLS_FILE).read_bytes()
    assert read_matched_draws(data, [2, 1]).shape == (N_NULLS, 2, 4)
    with pytest.raises(Exception, match=r"nulls\.parquet"):
        read_matched_draws(data[:100], [1])
    with pytest.raises(Exception, match=r"nulls\.parquet"):
        read_matched_draws(data, [99])

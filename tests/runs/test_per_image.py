"""The counts that runs leave: read as written, refused where they are something else."""

import io

import numpy as np
import pandas as pd
import pytest

from semseg_cli.errors import SemsegError
from semseg_cli.runs.per_image import COUNTED, read_draws, read_per_image

FRAME = pd.DataFrame(
    {
        "image": pd.Categorical(["b", "b", "a", "a"], categories=["b", "a"]),
        "class_id": [3, 1, 3, 1],
        **{name: [40 - 10 * i + c for c in range(4)] for i, name in enumerate(COUNTED)},
    }
)


def parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["category", "str", "object"])
def test_counts_are_placed_by_image_and_class(kind: str) -> None:
    counts = read_per_image(parquet(FRAME.astype({"image": kind})))
    assert counts.images == ("b", "a")
    assert counts.class_ids == (1, 3)
    assert counts.counts_bc4.dtype == np.int64
    assert counts.counts_bc4[0, 0].tolist() == [41, 31, 21, 11]
    assert counts.counts_bc4[1, 1].tolist() == [42, 32, 22, 12]


def test_counts_weights_and_groups_are_those_of_the_whole_file() -> None:
    frame = FRAME.assign(n_edited=-1, weight=[1.0, 2.0, 3.0, 4.0], group=["x", "x", "y", "y"])
    counts = read_per_image(parquet(frame))
    assert counts.counts_bc4.tolist() == read_per_image(parquet(FRAME)).counts_bc4.tolist()
    assert counts.weight_bc is not None
    assert counts.weight_bc.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert counts.groups == ("x", "y")


def test_images_and_classes_can_be_put_in_another_order() -> None:
    counts = read_per_image(parquet(FRAME))
    assert counts.on(["a", "b"], [3])[:, 0, 0].tolist() == [42, 40]


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", parquet(FRAME.drop(columns="image")), parquet(FRAME.drop(columns=COUNTED[1])),
     parquet(FRAME.astype({"n_orig_patches": "str"}))],
)  # fmt: skip
def test_what_holds_no_counts_is_refused(data: bytes) -> None:
    with pytest.raises(SemsegError, match=r"per_image\.parquet cannot be read"):
        read_per_image(data)


DRAWS = f"draw,class_id,{','.join(COUNTED)}\n0,0,1,2,3,4\n0,5,1,2,3,4\n1,0,5,6,7,8\n1,5,5,6,7,9\n"


def test_draws_are_placed_by_draw_and_class() -> None:
    draws = read_draws(DRAWS)
    assert (draws.class_ids, draws.classes) == ((0, 5), (5,))
    assert draws.counts_dc4.shape == (2, 2, 4)
    assert draws.on([5])[1, 0].tolist() == [5, 6, 7, 9]


@pytest.mark.parametrize(
    "text", ["", "draw\n1\n", DRAWS.replace("1,5,5,6,7,9\n", ""), DRAWS.replace("9", "x")]
)
def test_draws_that_are_no_whole_counts_are_refused(text: str) -> None:
    with pytest.raises(SemsegError, match=r"draws\.csv cannot be read"):
        read_draws(text)

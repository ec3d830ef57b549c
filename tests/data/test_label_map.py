"""Numbers to class ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg_cli.data.label_map import LabelMap
from semseg_cli.errors import SemsegError


@given(
    st.integers(1, 400),
    st.integers(-40, 40),
    st.sets(st.integers(0, 400), max_size=4),
    st.integers(0, 255),
)
def test_the_table_says_what_the_definition_says(
    n_classes: int, offset: int, ignored: set[int], number: int
) -> None:
    names = tuple(str(i) for i in range(n_classes))
    labels = LabelMap(names, offset, tuple(ignored))
    if number in ignored:
        expected = 0
    else:
        expected = number + offset if 1 <= number + offset <= n_classes else -1
    assert labels.table[number] == expected


@pytest.mark.parametrize(
    ("n_classes", "offset", "ignored", "is_wide"),
    [(255, 0, (0,), False), (256, 0, (0,), True), (256, 1, (), False), (3, 0, (256,), True),
     (250, -10, (0,), True), (1, 0, (255,), False)],
)  # fmt: skip
def test_sixteen_bits_are_allowed_where_needed(
    n_classes: int, offset: int, ignored: tuple[int, ...], is_wide: bool
) -> None:
    labels = LabelMap(("x",) * n_classes, offset, ignored)
    assert ("I;16" in labels.modes) == is_wide
    assert len(labels.table) == (65536 if is_wide else 256)


def test_more_than_16_bits_are_refused() -> None:
    LabelMap(("x",) * 65535)
    with pytest.raises(SemsegError, match="up to 65536 in its masks: 16-bit masks hold 65535"):
        LabelMap(("x",) * 65536)

"""class_results.csv: read as written, refused where it is something else."""

from pathlib import Path

import pytest
from run_folders import make_folder

from semseg_cli.errors import FileError
from semseg_cli.runs.class_rows import parse_class_rows, read_class_rows

TEXT = """\
class_name,target_change,other_change,selectivity,class_id,n_orig_patches,n_changed_patches,\
n_other_patches,n_other_changed,latent,target_change_reason
sea,0.5,,,1,4,2,0,0,3+5,few
"""


def test_rows_are_numbers_but_for_names_and_reasons() -> None:
    (row,) = parse_class_rows(TEXT)
    assert (row["class_name"], row["target_change"], row["other_change"]) == ("sea", 0.5, None)
    assert (row["class_id"], row["latent"], row["target_change_reason"]) == (1, "3+5", "few")


def test_what_a_run_writes_is_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert [row["class_id"] for row in read_class_rows(folder.path / "class_results.csv")] == [1, 2]
    assert read_class_rows(tmp_path / "nothing.csv") == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it lacks the column class_name"),
        (TEXT.split("sea")[0], "it has no rows"),
        (TEXT.replace("selectivity", "selectvity"), "it lacks the column selectivity"),
        (TEXT.replace(",1,4,", ",x,4,"), "row 2 has class_id = 'x'"),
        (TEXT.replace(",1,4,", ",1,,"), "row 2 has n_orig_patches = None"),
        (TEXT.replace(",1,4,", ",1,-4,"), "row 2 has n_orig_patches = -4"),
        (TEXT.replace(",1,4,", ",1,4.5,"), "row 2 has n_orig_patches = 4.5"),
        (TEXT.replace("0.5", "half"), "row 2 has target_change = 'half'"),
        (TEXT.replace(",1,4,", f",{'9' * 400},4,"), "row 2 has class_id = '999"),
        (TEXT.replace("sea,0.5,", "sea,0.5"), "row 2 has 10 cells, the header 11"),
    ],
)
def test_what_is_no_table_of_classes_is_told(text: str, sentence: str) -> None:
    with pytest.raises(FileError, match=rf"class_results\.csv cannot be read \({sentence}"):
        parse_class_rows(text)

"""report.html: one well-formed page that needs nothing else and lets no name break out."""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from run_folders import fill, make_folder, make_report

from semseg_cli.runs.contents import params_of
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.metrics import RUNS
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.runs.rows import Row, read_rows
from semseg_cli.show import html_parts
from semseg_cli.show.html_report import report_html

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src="https://example.org/x.png" onerror="alert(1)" />',
    "</style></title><b>&amp;",
    "bell\x07 and \x00 null",
    "' onload='x",
)


def page(
    folder: RunFolder, rows: Sequence[Row] = (), numbers: Mapping[str, float] | None = None
) -> ElementTree.Element:
    """The page as a tree; parsing fails where a tag is not closed or a sign not escaped."""
    if numbers is None:
        numbers = folder.report().metrics()
    text = report_html(folder, rows or read_rows(folder.path / "class_results.csv"), numbers)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    return ElementTree.fromstring(text)


def words(tree: ElementTree.Element) -> str:
    body = tree.find("body")
    assert body is not None
    return " ".join(" ".join(body.itertext()).split())


def assert_self_contained(tree: ElementTree.Element) -> None:
    """Nothing is fetched, and nothing runs but what the policy names by its digest."""
    (policy,) = [meta.get("content") for meta in tree.iter("meta") if meta.get("http-equiv")]
    (script,) = [script.text or "" for script in tree.iter("script")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert not re.search(r"fetch|XMLHttp|import|innerHTML|eval|https?:", script)
    for element in tree.iter():
        assert element.tag not in ("link", "iframe", "object", "embed", "a", "base")
        assert not [name for name in element.attrib if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "style"):
            value = element.get(name)
            assert not value or re.match(r"data:image/(jpeg|svg\+xml);base64,", value)
    styles = "".join(style.text or "" for style in tree.iter("style"))
    assert not re.search(r"url\(|@import|https?:", styles)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_folder(tmp_path)


def test_the_page_is_well_formed_and_self_contained(folder: RunFolder) -> None:
    (folder.path / "plots").mkdir()
    (folder.path / "plots" / "changes.png").write_bytes(PNG)
    (folder.path / "plots" / "target_other.svg").write_bytes(SVG)
    tree = page(folder)
    assert_self_contained(tree)
    head = tree.find("head")
    assert head is not None
    assert [title.text for title in head.iter("title")] == ["auto-feat x-2"]


@pytest.mark.parametrize(
    "bad",
    ['<img src="https://example.org/x.png" />', "<script>x</script>", '<p onclick="x" />'],
)
def test_the_guard_against_references_can_fail(bad: str, folder: RunFolder) -> None:
    tree = page(folder)
    tree.append(ElementTree.fromstring(bad))
    with pytest.raises((AssertionError, ValueError)):
        assert_self_contained(tree)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_name_breaks_out_of_the_page(hostile: str, tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path, run_name=hostile, tags={hostile: hostile}, experiment=hostile, sweep_id=hostile
    )
    report = make_report()
    named = ClassResults(1, hostile, 100, 90, 300, 12, {2: 90})
    fill(folder, Report(report.method, [named], -2.0, min_patches=50))
    settings = folder.path / "settings.toml"
    settings.write_text(f"note = {csv_quoted(hostile)}\n" + settings.read_text())
    (folder.path / "examples").mkdir()
    (folder.path / "examples" / "a&b'<c>.png").write_bytes(PNG)
    tree = page(folder)
    assert_self_contained(tree)
    shown = " ".join(re.sub(r"[\x00-\x08\x0b-\x1f]", "\ufffd", hostile).split())
    assert shown in words(tree)
    assert sum(1 for _ in tree.iter("img")) == 1
    assert not list(tree.iter("b"))


def csv_quoted(text: str) -> str:
    """A TOML string."""
    return '"' + "".join(f"\\u{ord(sign):04x}" for sign in text) + '"'


def test_all_that_the_run_is_stands_in_it(folder: RunFolder) -> None:
    shown = words(page(folder))
    for name, value in params_of(folder).items():
        assert f"{name} {value}" in shown
    assert "auto-feat, class protocol, scale -2, experiment semseg" in shown
    settings = folder.path.absolute() / "settings.toml"
    assert f"To run it again: semseg-cli auto-feat --config {settings}" in shown
    for expected in (
        "/data/ade, split validation, 4 images",
        "digest of the sae 5ae",
        "tag author",
    ):
        assert expected in shown


def test_headline_and_classes_come_with_their_intervals(folder: RunFolder) -> None:
    rows = [
        {**row, "target_change_lo": 0.125, "target_change_hi": 0.875}
        for row in read_rows(folder.path / "class_results.csv")
    ]
    numbers = {**folder.report().metrics(), "selectivity_lo": 0.25, "selectivity_hi": 0.75}
    shown = words(page(folder, rows, numbers))
    assert "pooled selectivity 0.705 [.25,.75]" in shown
    assert "sand 8 0.900 [.12,.88] 0.040" in shown
    assert "95% interval over other images" in shown


def test_without_intervals_there_are_no_brackets(folder: RunFolder) -> None:
    shown = words(page(folder))
    assert "Brackets" not in shown
    assert "sea [b t d] 9 0.500 0.050" in shown


def test_every_large_number_says_what_it_is_over_and_what_it_is(folder: RunFolder) -> None:
    tiles = [div for div in page(folder).iter("div") if div.get("class") == "tile"]
    said = {
        spans[0].text: (spans[-1].text, tile.get("title"))
        for tile in tiles
        for spans in [[*tile.iter("span")]]
    }
    assert said["macro target change"][0] == "mean over 2 classes"
    assert said["pooled target change"][0] == "of 160 patches, pooled"
    assert all(over and definition for over, definition in said.values())
    assert {m.key for m in RUNS if "tiles" in m.shown} == {
        m.key for m in RUNS if "tiles" in m.shown and m.over
    }


def test_all_of_a_page_counts_over_the_classes_that_were_asked_for(folder: RunFolder) -> None:
    first, second = folder.report().class_results
    thin = replace(second, n_orig_patches=9, n_changed_patches=3, change_distribution={1: 3})
    fill(folder, replace(folder.report(), class_results=[first, thin], no_latent=["pole"]))
    shown = words(page(folder))
    assert "mean over 1 of 3 classes" in shown
    assert "4 images, 2 of 3 classes." in shown
    assert "macro: 1 of 3 classes; not 1 without a latent (pole), 1 with fewer than 50" in shown
    assert " 2 classes" not in shown


def test_the_table_of_classes_says_what_its_rows_are_over(folder: RunFolder) -> None:
    shown = words(page(folder))
    assert "target is over a class's predicted patches, other over all others of 4 images." in shown
    fill(folder, replace(folder.report(), n_patches=200))
    shown = words(page(folder))
    assert "160 of all 200 together (the other 40 as classes without a row); changed:" in shown


def test_classes_go_by_selectivity(folder: RunFolder) -> None:
    tree = page(folder)
    tables = [[cell.text for cell in table.iter("td")] for table in tree.iter("table")]
    assert tables[0].index("sand") < tables[0].index("sea [b t d]")


@pytest.mark.parametrize(
    ("command", "meta", "note"),
    [
        ("rand-vec", {}, "one number by construction"),
        (
            "auto-feat",
            {
                "datasets": [
                    {"name": "a", "root": "/a", "n_images": 4, "role": role, "split": "s",
                     "digest": "d"}
                    for role in ("evaluation", "lookup")
                ]
            },
            "chosen on the very split that they are evaluated on",
        ),
    ],
)  # fmt: skip
def test_what_numbers_do_not_mean_is_said_once(
    command: str, meta: Mapping[str, Any], note: str, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path, command, **meta)
    fill(folder, replace(folder.report(), n_patches=160))
    plain = make_folder(tmp_path)
    assert words(page(folder)).count(note) == 1
    assert note not in words(page(plain))


def test_pictures_are_inlined_in_their_order(folder: RunFolder) -> None:
    for part, name in (
        ("plots", "zzz.png"), ("plots", "dose_response.svg"), ("plots", "dose_response.png"),
        ("plots", "target_other.png"), ("examples", "e-1.png"),
    ):  # fmt: skip
        (folder.path / part).mkdir(exist_ok=True)
        (folder.path / part / name).write_bytes(SVG if name.endswith("svg") else PNG)
    images = list(page(folder).iter("img"))
    kinds = [str(image.get("src")).partition(";")[0] for image in images]
    assert kinds == [f"data:image/{kind}" for kind in ("jpeg", "svg+xml", "jpeg", "jpeg")]
    said = [str(image.get("alt")) for image in images]
    assert said[0].startswith("Share of each")
    assert said[1].startswith("Means over classes")
    assert said[2:] == ["zzz.png", "e-1.png"]
    assert base64.b64decode(str(images[1].get("src")).partition(",")[2]) == SVG
    for image in (images[0], *images[2:]):
        data = base64.b64decode(str(image.get("src")).partition(",")[2])
        assert Image.open(io.BytesIO(data)).size == (1, 1)


def test_examples_beyond_the_room_of_a_page_are_counted(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "examples").mkdir()
    for i in range(11):
        (folder.path / "examples" / f"e-{i:02}.png").write_bytes(PNG)
    (one, *_) = page(folder).iter("img")
    size = len(base64.b64decode(str(one.get("src")).partition(",")[2]))
    monkeypatch.setattr(html_parts, "ROOM", 6 * size)
    tree = page(folder)
    assert [image.get("alt") for image in tree.iter("img")] == [f"e-{i:02}.png" for i in range(6)]
    assert "5 more in the folder examples/." in words(tree)


def test_a_lookup_has_latents_and_no_headline(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, status=None, kind="lookup")
    rows = [
        {"class_id": 1, "class_name": "sand", "rank": 1, "latent": 5, "chosen": 1, "f1": 0.75,
         "selectivity": 0.5},
        {"class_id": 1, "class_name": "sand", "rank": 2, "latent": 6, "chosen": 0, "f1": 0.25,
         "selectivity": 0.25},
    ]  # fmt: skip
    with (folder.path / "lookup.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    tree = page(folder, numbers={})
    shown = words(tree)
    assert "sand 5 0.750 0.500" in shown
    assert "0.250" not in shown
    assert "on the selection images" in shown
    assert not [div for div in tree.iter("div") if div.get("class") == "tiles"]

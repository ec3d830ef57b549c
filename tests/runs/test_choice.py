"""What is said below a table of latents."""

from typing import Any

from semseg_cli.runs.choice import choice_notes, is_broad, of_several
from semseg_cli.show.run_tables import lookup_table
from semseg_cli.show.tables import render


def row(name: str, latent: int, stability: float | None = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "class_name": name, "latent": latent, "rank": 1, "chosen": 1, "f1": 0.9,
        "stability": stability, "runner_up": 3, "class_share": 0.1, **more,
    }  # fmt: skip


def test_steady_classes_and_those_that_are_too_thin_are_counted() -> None:
    rows = [row("a", 1), row("b", 2, 0.949), row("c", 3, None), row("c", 4, 0.0, chosen=0)]
    (said,) = choice_notes(rows)
    assert "at least 0.95 in 1 of 2 classes" in said
    assert "Too few images with the class to tell: 1." in said


def test_nothing_is_promised_where_every_class_is_too_thin() -> None:
    assert choice_notes([row("a", 1, None)])[0].startswith("stable: not told")


def test_a_users_own_table_has_no_stability() -> None:
    assert choice_notes([{"class_name": "a", "latent": 1}]) == ()


def test_a_latent_of_several_classes_is_named_with_them() -> None:
    rows = [row(name, 7) for name in "abcdef"] + [row("z", 8), row("y", 8, chosen=0)]
    assert of_several(rows) == {7: list("abcdef")}
    notes = choice_notes(rows)
    assert notes[1] == "Latent 7 is chosen for several classes: a, b, c, d and 2 more."
    table = lookup_table(rows)
    assert table.strong == {(i, "latent") for i in range(6)}
    assert notes[1] in " ".join(render(table).split())


def test_a_latent_that_fires_on_more_than_half_of_the_classes_is_named() -> None:
    assert not is_broad(row("a", 1, class_share=0.5))
    rows = [row("a", 1, class_share=0.51), row("b", 2)]
    assert choice_notes(rows)[1].startswith("Latent 1 fires on more than half of all classes")
    assert lookup_table(rows).strong == {(0, "latent")}


def test_classes_without_a_latent_share_none() -> None:
    assert of_several([row("a", -1), row("b", -1)]) == {}
    assert of_several([{"class_name": "a", "latent": None}, {"class_name": "b"}]) == {}

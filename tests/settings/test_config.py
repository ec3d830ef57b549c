"""Settings: bounds, choices, parts of one another."""

from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin

import pytest

from semseg_cli.settings.base import Settings, default_of, narrow
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.entries import entries
from semseg_cli.settings.inputs import Data, Imgs, Setup
from semseg_cli.settings.latent_choice import Choose, LatentChoice, Scaled, Selection
from semseg_cli.settings.methods import MANUAL, METHODS, AutoFeat, MeanDiff, Method
from semseg_cli.settings.output import Output, Shown
from semseg_cli.settings.reference import Quantitative
from semseg_cli.settings.suite import Suite
from semseg_cli.settings.training import Training

CLASSES: list[type[Settings]] = [
    *(Setup, Choose, *METHODS, Suite, Training, Output, Shown, Quantitative),
]
FIELDS = [(cls, f) for cls in CLASSES for f in fields(cls)]
OUTWARDS = {"ge": -1, "le": 1, "gt": 0}  # from a bound to a number beyond it


def is_number(f: Any) -> bool:
    return any(kind in (int, float) for kind in (f.type, *get_args(f.type)))


def choices_of(f: Any) -> list[str]:
    """What a field may be, where that is one of a few words."""
    kinds = [kind for kind in (f.type, *get_args(f.type)) if get_origin(kind) is Literal]
    return [choice for kind in kinds for choice in get_args(kind)]


def name_of(value: Any) -> str | None:
    return value.name if isinstance(value, Field) else getattr(value, "__name__", None)


NUMBERS = [(cls, f) for cls, f in FIELDS if is_number(f)]
BOUNDS = [(cls, f, b) for cls, f in FIELDS for b in OUTWARDS if f.metadata.get(b) is not None]
CHOICES = [(cls, f) for cls, f in FIELDS if choices_of(f)]


def wrapped(f: Any, value: Any) -> Any:
    return (value,) if get_origin(f.type) is tuple else value


@pytest.mark.parametrize("cls", CLASSES)
def test_the_defaults_are_allowed(cls: type[Settings]) -> None:
    cls()


def test_the_cases_are_those_of_the_settings() -> None:
    assert {f.name for _, f in NUMBERS} >= {"scale", "max_freq", "top_k", "n_workers"}
    assert {(f.name, bound) for _, f, bound in BOUNDS} >= {
        ("max_freq", "gt"), ("max_freq", "le"), ("label_threshold", "ge"), ("top_k", "ge"),
    }  # fmt: skip
    assert {f.name for _, f in CHOICES} >= {"protocol", "select", "match", "vit_family"}


@pytest.mark.parametrize(("cls", "f"), NUMBERS, ids=name_of)
def test_every_number_must_be_finite(cls: type[Settings], f: Any) -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"^{f.name} is {value}: give a finite number"):
            cls(**{f.name: wrapped(f, value)})


@pytest.mark.parametrize(("cls", "f", "bound"), BOUNDS, ids=name_of)
def test_every_bound_is_kept_and_its_edge_allowed(cls: type[Settings], f: Any, bound: str) -> None:
    edge, outwards = f.metadata[bound], OUTWARDS[bound]
    if outwards:
        cls(**{f.name: wrapped(f, edge)})
    with pytest.raises(ValueError, match=f"^{f.name} is .*: give a number"):
        cls(**{f.name: wrapped(f, edge + outwards)})


def test_what_a_number_multiplies_has_an_end() -> None:
    """A fraction is bounded on both sides: beyond floats of 32 bits it is a traceback of torch."""
    for cls, f in NUMBERS:
        if f.type in (float, float | None, tuple[float, ...]):
            known = {bound for bound in OUTWARDS if f.metadata.get(bound) is not None}
            assert known > {"le"}, (cls, f.name)
    for cls, name in ((Suite, "draws"), (Suite, "peers"), (RandVec, "draws"), (Training, "epochs")):
        (f,) = (one for one in fields(cls) if one.name == name)
        assert f.metadata["le"] <= 100_000


@pytest.mark.parametrize(("cls", "f"), CHOICES, ids=name_of)
def test_every_choice_is_checked(cls: type[Settings], f: Any) -> None:
    choices = choices_of(f)
    for choice in choices:
        cls(**{f.name: choice})
    with pytest.raises(ValueError, match=f"^{f.name} is 'nothing': choose one of {choices[0]}"):
        cls(**{f.name: "nothing"})


@pytest.mark.parametrize("cls", CLASSES)
def test_every_option_has_a_help_text_and_a_panel(cls: type[Settings]) -> None:
    for entry in entries(cls):
        assert entry.field.metadata["help"].endswith((".", ";")), entry.key
        assert entry.panel != Settings.panel


@pytest.mark.parametrize(
    ("cls", "values", "sentence"),
    [
        (AutoFeat, {"scale": (-2.0, 10.5)}, r"scale is 10\.5: give a number from -10 to 10"),
        (RandFeat, {"scale": (-11.0,)}, r"scale is -11\.0"),
        (RandVec, {"scale": (50.0,), "match": "norm"}, r"scale is 50\.0"),
        (Selection, {"max_freq": 0.0}, r"max_freq is 0\.0: give a number above 0"),
        (Selection, {"max_freq": 1.5}, r"max_freq is 1\.5: give a number of at most 1"),
        (Selection, {"top_k": 0}, "top_k is 0: give a number from 1 to 1000000"),
        (Data, {"label_threshold": 1.1}, r"label_threshold is 1\.1: give a number from 0 to 1"),
        (Setup, {"protocol": "both"}, "protocol is 'both': choose one of class, label"),
        (
            Shown,
            {"examples": 3, "no_plots": True},
            "examples is 3: leave out --no-plots to draw them",
        ),
        (Output, {"tags": ("author",)}, "tag is 'author': give it as KEY=VALUE"),
        (Output, {"tags": ("a=b", " =c")}, "tag is ' =c'"),
    ],
)
def test_bad_values_by_hand(cls: Any, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cls(**values)


def test_a_random_vector_may_be_of_any_length() -> None:
    assert RandVec(scale=(-500.0, 500.0)).scale == (-500.0, 500.0)


def test_settings_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        Imgs("root")  # type: ignore[call-arg, arg-type]


def test_methods_are_the_members_of_the_union_with_commands_of_their_own() -> None:
    assert get_args(Method) == METHODS
    assert len({m.command for m in METHODS}) == len(METHODS)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (RandVec(), "rand-vec"),
        (RandVec(match="norm", select="causal"), "rand-vec norm causal"),
        (RandVec(select="causal", top_k_group=3), "rand-vec"),  # it chooses no latents
        (RandFeat(match="max", top_k_group=2), "rand-feat max top2"),
        (RandFeat(match="none", select="causal"), "rand-feat none"),
        (MeanDiff(direction="lda", match="project"), "mean-diff lda project"),
        (MeanDiff(match="project"), "mean-diff project"),
        (AutoFeat(control="shuffled"), "auto-feat shuffled"),
        (AutoFeat(lookup="a.csv", top_k_group=2), "auto-feat"),
    ],
)
def test_a_run_is_named_by_what_is_not_plain(method: Method, expected: str) -> None:
    assert method.run_name(is_manual=False) == expected


def test_only_the_automatic_feature_is_called_manual_by_hand() -> None:
    by_hand = {kind.command: kind(lookup="a.csv") for kind in METHODS}
    names = {key: one.called(is_manual=True) for key, one in by_hand.items()}
    assert names.pop("auto-feat") == MANUAL
    assert all(key == name for key, name in names.items())
    assert by_hand["auto-feat"].run_name(is_manual=True) == "manual"
    assert by_hand["rand-feat"].run_name(is_manual=True) == "rand-feat"


def test_narrow_takes_what_fits_and_applies_changes() -> None:
    cfg = Quantitative(top_k=7, seed=3, max_freq=0.2, imgs=Imgs(split="training"))
    assert narrow(cfg, AutoFeat, scale=(1.0,)) == AutoFeat(top_k=7, max_freq=0.2, scale=(1.0,))
    setup = narrow(cfg, Setup)
    assert type(setup) is Setup
    assert (setup.seed, setup.imgs.split) == (3, "training")
    with pytest.raises(ValueError, match="scale is 99"):
        narrow(cfg, Scaled, scale=(99.0,))
    assert narrow(AutoFeat(lookup="x"), LatentChoice).lookup == "x"


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults_are_read_from_the_field(cls: type[Settings]) -> None:
    made = cls()
    for f in fields(cls):
        assert default_of(f) == getattr(made, f.name)

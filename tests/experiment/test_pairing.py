"""Which SAE is used at which layer, what each is called, and whose the given statistics are."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from worlds import known_sae

from semseg_cli.errors import UsageError
from semseg_cli.experiment.pairing import (
    _layers,
    _names,
    _Read,
    _statistic,
    is_one,
    setup_of_one,
    sources_of,
)
from semseg_cli.models.sae.trained_at import of_hook
from semseg_cli.settings.suite import SuiteSetup

N_LAYERS = 12


def read(hook: str = "") -> _Read:
    sae = known_sae()
    sae.trained_at = of_hook(hook)
    return _Read("a.pt", "a.pt", sae)


@pytest.mark.parametrize(
    ("hook", "given", "layers"),
    [
        ("", (), [None]),
        ("", (3, 6), [3, 6]),
        ("blocks.5.hook_resid_post", (), [None]),
        ("blocks.5.hook_resid_post", (3, 6, 9), [6]),
        ("blocks.6.hook_resid_pre", (3, 6, 9), [6]),  # the stream between blocks 6 and 7
        ("blocks.6.hook_resid_pre", (6, 7), [7]),  # as the file calls it
    ],
)
def test_an_sae_that_says_its_layer_is_used_there_alone(
    hook: str, given: tuple[int, ...], layers: list[int | None]
) -> None:
    assert _layers(SuiteSetup(vit_layer=given), read(hook), N_LAYERS) == layers


def test_one_that_fits_no_layer_is_left_out_with_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = SuiteSetup(vit_layer=(3, 9))
    assert _layers(base, read("blocks.5.hook_resid_post"), N_LAYERS) == []
    assert caplog.messages == [
        "a.pt is of layer 6, as its file says, which is none of --vit-layer 3, 9: it is left out."
    ]


def test_patterns_are_sorted_and_each_file_is_named_once(tmp_path: Path) -> None:
    for name in ("b.pt", "a.pt", "c[1].pt"):
        (tmp_path / name).touch()
    a, b, c = (str(tmp_path / name) for name in ("a.pt", "b.pt", "c[1].pt"))
    assert sources_of([str(tmp_path / "*"), b]) == [(a, True), (b, False), (c, True)]
    assert sources_of([c]) == [(c, False)]  # a name that is there is no pattern
    assert sources_of(["hf://org/name?x"]) == [("hf://org/name?x", False)]
    with pytest.raises(UsageError, match="fits no file"):
        sources_of([str(tmp_path / "*.safetensors")])


def test_names_are_as_long_as_tells_them_apart() -> None:
    assert _names(["x/a.pt", "y/b.pt"]) == ["a.pt", "b.pt"]
    assert _names(["x/a.pt", "y/a.pt"]) == ["x/a.pt", "y/a.pt"]


def test_statistics_belong_to_their_layer(tmp_path: Path) -> None:
    files = {layer: str(tmp_path / f"{layer}.safetensors") for layer in (3, 6)}
    for layer, file in files.items():
        save_file({"act_mean": torch.zeros(4)}, file, {"place": f"resid-post {layer}"})
    loose = str(tmp_path / "loose.safetensors")
    save_file({"act_mean": torch.zeros(4)}, loose)
    both = SuiteSetup(act_mean=tuple(files.values()), act_norm=("2.0",))
    assert _statistic(both, "act_mean", 6, [3, 6, 9]) == files[6]
    assert _statistic(both, "act_mean", 9, [3, 6, 9]) is None
    assert _statistic(both, "act_norm", 9, [3, 6, 9]) == "2.0"
    one = SuiteSetup(act_mean=(loose,))
    assert _statistic(one, "act_mean", 6, [6]) == loose
    with pytest.raises(UsageError, match="does not say its layer"):
        _statistic(one, "act_mean", 6, [3, 6])
    with pytest.raises(UsageError, match="several that may be of layer 6"):
        _statistic(SuiteSetup(act_mean=(loose, "0")), "act_mean", 6, [6])


def test_one_sae_at_one_layer_is_a_suite_of_its_own() -> None:
    base = SuiteSetup(sae_ckpt=("a.pt",), vit_layer=(3,), act_norm=("2.0",))
    assert is_one(base)
    made = setup_of_one(base)
    assert (made.sae_ckpt, made.vit_layer, made.act_norm, made.act_mean) == ("a.pt", 3, "2.0", None)
    assert not is_one(SuiteSetup(sae_ckpt=("a.pt",), vit_layer=(3, 6)))
    assert not is_one(SuiteSetup(sae_ckpt=("a.pt", "b.pt")))
    with pytest.raises(UsageError, match="--act-norm is given several times"):
        setup_of_one(SuiteSetup(sae_ckpt=("a.pt",), act_norm=("1", "2")))

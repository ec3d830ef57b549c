"""Where files say that an autoencoder was trained."""

import json
from pathlib import Path
from typing import Any

import pytest
from sae_files import Weights, b, dictionary_learning, linear, prisma, weights

from semseg_cli.models import sae as saes
from semseg_cli.models.sae.trained_at import TrainedAt, of_block, of_hook


@pytest.mark.parametrize(
    ("name", "block", "site"),
    [
        ("blocks.9.hook_resid_post", 9, "resid-post"),
        ("blocks.0.hook_resid_pre", 0, "resid-pre"),
        ("blocks.3.hook_resid_mid", 3, "resid-mid"),
        ("blocks.10.hook_mlp_out", 10, "mlp-out"),
        ("blocks.10.hook_attn_out", 10, "attn-out"),
        ("blocks.-2.hook_resid_post", -2, "resid-post"),
        ("vision_model.encoder.layers.22", 22, "resid-post"),
        ("encoder.layer.4.mlp", 4, "mlp-out"),
        ("encoder.layers.4.self_attn", 4, "attn-out"),
        ("layers.4.attention", 4, "attn-out"),
        ("ln_final.hook_normalized", None, "norm-out"),
        ("layernorm", None, "norm-out"),
        ("blocks.10.mlp.hook_post", 10, None),
        ("blocks.10.attn.hook_z", 10, None),
        ("blocks.10.ln2.hook_normalized", 10, None),
    ],
)
def test_names_of_hooks_and_modules(name: str, block: int | None, site: str | None) -> None:
    found = of_hook(name)
    assert found == TrainedAt(name, block, (site,) if site else ())
    assert found.is_elsewhere == (site is None)


def test_nothing_said_is_nothing() -> None:
    assert of_hook(None) == of_hook("") == of_hook(3) == of_block("x", "x") == TrainedAt()
    assert not TrainedAt().is_elsewhere


def test_layers_count_from_1_and_negative_blocks_from_the_end() -> None:
    assert of_block(0, "x").layer(12) == 1
    assert of_block(-1, "x").layer(12) == 12
    assert of_block(-2, "x").layer(12) == 11
    assert of_hook("layernorm").layer(12) == 12
    assert TrainedAt().layer(12) is None


def test_a_place_has_all_its_names() -> None:
    assert of_block(4, "x", "resid-pre").places(12) == [(5, "resid-pre"), (4, "resid-post")]
    assert of_block(0, "x", "resid-pre").places(12) == [(1, "resid-pre")]
    assert of_block(4, "x").places(12) == [(5, "resid-post"), (6, "resid-pre")]
    assert of_block(11, "x").places(12) == [(12, "resid-post")]
    both = of_block(-1, "x", "resid-post", "norm-out")
    assert both.places(12) == [(12, "resid-post"), (12, "norm-out")]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"hook_point": None, "layer_subtype": "hook_mlp_out"}, of_hook("blocks.9.hook_mlp_out")),
        ({"hook_point": "blocks.2.hook_resid_post"}, of_hook("blocks.2.hook_resid_post")),
        ({"hook_point": None, "cls_token_only": True}, TrainedAt(cls_only=True)),
        ({"hook_point": None}, TrainedAt()),
    ],
)
def test_prismas_config(tmp_path: Path, entries: dict[str, Any], expected: TrainedAt) -> None:
    prisma("b_enc", **entries)(tmp_path, weights())
    assert saes.load(tmp_path).trained_at == expected


@pytest.mark.parametrize(
    ("entries", "block", "site"),
    [
        ({"layer": 11, "submodule_name": "resid_post_layer_11"}, 11, "resid-post"),
        ({"layer": 5, "submodule_name": "post_mlp_residual"}, 5, "resid-post"),
        ({"layer": 5, "submodule_name": "mlp_out"}, 5, "mlp-out"),
        ({"layer": 5}, 5, "resid-post"),
        ({"layer": -1}, None, None),  # sae-for-vlm's pooled embedding
        ({"layer": "x"}, None, None),
        ({}, None, None),
    ],
)
def test_dictionary_learnings_config(
    tmp_path: Path, entries: dict[str, Any], block: int | None, site: str | None
) -> None:
    def state(w: Weights) -> dict[str, Any]:
        return linear(w, **{"encoder.bias": b(w, "b_enc"), "bias": b(w, "b_dec")})

    dictionary_learning("AutoEncoder", state)(tmp_path, weights())
    config = json.loads((tmp_path / "config.json").read_text())
    config["trainer"] |= entries
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = saes.load(tmp_path).trained_at
    assert (found.block, found.site) == (block, site)


def test_it_stays_with_another_encoding_rule(tmp_path: Path) -> None:
    prisma("b_enc", hook_point="blocks.2.hook_mlp_out")(tmp_path, weights())
    sae = saes.load(tmp_path)
    assert sae.recentred(not sae.centres_input).trained_at == of_hook("blocks.2.hook_mlp_out")

"""Tiny autoencoders in the real layout of every format, and what they compute, in plain numpy.

`encode` and `decode` are written out from each format's own rules and share nothing with the
package. `decode` gets the token too, since some formats put its own size back.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file

D, S, K = 6, 12, 8  # K: more than are above 0, so that a ReLU after top-k shows
Array = np.ndarray
Weights = dict[str, Array]


def weights(seed: int = 0) -> Weights:
    """Random weights by SAELens' names; decoder rows of length 0.5 to 2."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(S, D))
    rows *= rng.uniform(0.5, 2.0, (S, 1)) / np.linalg.norm(rows, axis=1, keepdims=True)
    drawn = {
        "W_enc": rng.normal(size=(D, S)),
        "b_enc": rng.normal(size=S) * 0.3,
        "W_dec": rows,
        "b_dec": rng.normal(size=D),
        "threshold": rng.uniform(-0.2, 0.8, S),
        "b_gate": rng.normal(size=S) * 0.3,
        "b_mag": rng.normal(size=S) * 0.5,
        "r_mag": rng.normal(size=S) * 0.4,
    }
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def tokens(n: int = 40, seed: int = 1) -> Array:
    """Random residuals [n, D], far from 0 on average."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, D)) * 2 + 1).astype(np.float32)


# --- the arithmetic -------------------------------------------------------------------------------


def relu(pre: Array) -> Array:
    return np.maximum(pre, 0)


def top_k(pre: Array, k: int = K) -> Array:
    order = np.argsort(-pre, axis=1)[:, :k]
    kept = np.zeros_like(pre)
    np.put_along_axis(kept, order, np.take_along_axis(pre, order, axis=1), axis=1)
    return kept


def above(pre: Array, threshold: Array | float) -> Array:
    return np.where(pre > np.maximum(threshold, 0), pre, 0)


def gate(x: Array, w: Weights) -> Array:
    magnitude = relu(x @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"])
    return (x @ w["W_enc"] + w["b_gate"] > 0) * magnitude


def layer_norm(x: Array) -> tuple[Array, Array, Array]:
    mean = x.mean(axis=1, keepdims=True)
    deviation = x.std(axis=1, ddof=1, keepdims=True)
    return (x - mean) / (deviation + 1e-5), mean, deviation


def row_norms(w: Weights) -> Array:
    return np.linalg.norm(w["W_dec"], axis=1)


def pre(x: Array, w: Weights) -> Array:
    return x @ w["W_enc"] + w["b_enc"]


def pre_centred(x: Array, w: Weights) -> Array:
    return (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]


def plain_decode(f: Array, _x: Array, w: Weights) -> Array:
    return f @ w["W_dec"] + w["b_dec"]


def layer_norm_decode(f: Array, x: Array, w: Weights) -> Array:
    _, mean, deviation = layer_norm(x)
    return (f @ w["W_dec"] + w["b_dec"]) * deviation + mean


def constant_norm(x: Array) -> Array:
    return x * D**0.5 / np.linalg.norm(x, axis=1, keepdims=True)


def constant_norm_decode(f: Array, x: Array, w: Weights) -> Array:
    return (f @ w["W_dec"] + w["b_dec"]) * np.linalg.norm(x, axis=1, keepdims=True) / D**0.5


def rescaled_decode(f: Array, _x: Array, w: Weights) -> Array:
    return (f / row_norms(w)) @ w["W_dec"] + w["b_dec"]


# --- the files ------------------------------------------------------------------------------------


def tensors(w: Weights, *names: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(w[name].copy()) for name in names}


def write_saev(folder: Path, w: Weights, header: Any, **more: Any) -> Path:
    path = folder / "sae.pt"
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save({**tensors(w, "W_enc", "b_enc", "W_dec", "b_dec"), **more}, file)
    return path


def saev(header: Any, **more: Any) -> Callable[[Path, Weights], Path]:
    more = {name.replace("__", "."): value for name, value in more.items()}
    return lambda folder, w: write_saev(folder, w, header, **more)


def saev_header(schema: int, cls: str, **params: Any) -> dict[str, Any]:
    widths = {"d_model": D, "d_sae": S} if schema == 5 else {"d_vit": D, "exp_factor": S // D}
    key = "key" if schema == 5 else "kind"
    activation = {"cls": cls, "params": {key: cls.lower(), **params}}
    return {"schema": schema, "cfg": {**widths, "activation": activation}, "commit": "unknown"}


LEGACY = {"d_vit": D, "exp_factor": S // D, "sparsity_coeff": 4e-4, "ghost_grads": False, "seed": 0}


def saev_1(cls: str, **cfg: Any) -> dict[str, Any]:
    cfg = {"d_vit": D, "exp_factor": S // D, "seed": 0, **cfg}
    return {"schema": 1, "cfg": cfg, "cls": cls, "commit": "unknown", "lib": "0.1.0"}


def saelens(*names: str, flat: bool = False, **cfg: Any) -> Callable[[Path, Weights], Path]:
    """Version 6, or the flat config of older ones."""

    def write(folder: Path, w: Weights) -> Path:
        save_file(tensors(w, "W_enc", "W_dec", "b_dec", *names), folder / "sae_weights.safetensors")
        common: dict[str, Any] = {"d_in": D, "d_sae": S, "dtype": "float32", "device": "cpu"}
        if not flat:
            metadata = {"sae_lens_version": "6.36.2", "hook_name": "blocks.9.hook_resid_post"}
            common |= {
                "apply_b_dec_to_input": True,
                "normalize_activations": "none",
                "reshape_activations": "none",
                "metadata": metadata,
            }
        (folder / "cfg.json").write_text(json.dumps({**common, **cfg}))
        return folder

    return write


def dictionary_learning(
    dict_class: str, state: Callable[[Weights], dict[str, Any]]
) -> Callable[[Path, Weights], Path]:
    def write(folder: Path, w: Weights) -> Path:
        torch.save(state(w), folder / "ae.pt")
        trainer = {"dict_class": dict_class, "activation_dim": D, "dict_size": S, "k": K}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
        return folder

    return write


def linear(w: Weights, **more: Any) -> dict[str, Any]:
    """Linear layers hold the transposes."""
    transposed = {
        "encoder.weight": torch.from_numpy(w["W_enc"].T.copy()),
        "decoder.weight": torch.from_numpy(w["W_dec"].T.copy()),
    }
    return {**transposed, **more}


def b(w: Weights, name: str) -> torch.Tensor:
    return torch.from_numpy(w[name].copy())


def write_sparsify(folder: Path, w: Weights) -> Path:
    state = {
        "encoder.weight": torch.from_numpy(w["W_enc"].T.copy()),
        "encoder.bias": b(w, "b_enc"),
        "W_dec": b(w, "W_dec"),
        "b_dec": b(w, "b_dec"),
    }
    save_file(state, folder / "sae.safetensors")
    cfg = {"expansion_factor": 2, "normalize_decoder": True, "num_latents": S, "k": K, "d_in": D}
    (folder / "cfg.json").write_text(json.dumps({**cfg, "multi_topk": False, "activation": "topk"}))
    return folder


def prisma(*names: str, file: str = "weights.pt", **cfg: Any) -> Callable[[Path, Weights], Path]:
    def write(folder: Path, w: Weights) -> Path:
        torch.save(tensors(w, "W_enc", "W_dec", "b_dec", *names), folder / file)
        common = {
            "architecture": "standard",
            "hook_point_layer": 9,
            "hook_point": "blocks.9.hook_resid_post",
            "d_in": D,
            "d_sae": S,
            "activation_fn_str": "relu",
            "activation_fn_kwargs": {},
            "dtype": "torch.float32",
        }
        (folder / "config.json").write_text(json.dumps({**common, **cfg}))
        return folder

    return write


def overcomplete(
    encoder: str = "encoder.final_block.0", more: dict[str, Any] | None = None, **cfg: Any
) -> Callable[[Path, Weights], Path]:
    def write(folder: Path, w: Weights) -> Path:
        state = {
            f"{encoder}.weight": torch.from_numpy(w["W_enc"].T.copy()),
            f"{encoder}.bias": b(w, "b_enc"),
            "dictionary._weights": b(w, "W_dec"),
            "dictionary.multiplier": torch.tensor(0.25),
            **(more or {}),
        }
        save_file(state, folder / "sae.safetensors")
        (folder / "sae.json").write_text(json.dumps(cfg))
        return folder

    return write


def overcomplete_decode(f: Array, _x: Array, w: Weights) -> Array:
    return f @ (w["W_dec"] / (row_norms(w)[:, None] + 1e-8)) * np.exp(0.25)


BATCH_NORM = {
    "encoder.1.weight": torch.linspace(0.5, 1.5, S),
    "encoder.1.bias": torch.linspace(-0.3, 0.3, S),
    "encoder.1.running_mean": torch.linspace(-1, 1, S),
    "encoder.1.running_var": torch.linspace(0.5, 2, S),
    "encoder.1.num_batches_tracked": torch.tensor(7),
}


def batch_norm(pre: Array) -> Array:
    gain, shift, mean, var = (tensor.numpy() for tensor in list(BATCH_NORM.values())[:4])
    return (pre - mean) / np.sqrt(var + 1e-5) * gain + shift


def write_visaebench(folder: Path, w: Weights) -> Path:
    state = {
        "encoder.weight": torch.from_numpy(w["W_enc"].T.copy()),
        "encoder.bias": b(w, "b_enc"),
        "decoder.weight": b(w, "W_dec"),
        "decoder.bias": b(w, "b_dec"),
    }
    torch.save(state, folder / "sae.pt")
    (folder / "config.json").write_text(
        json.dumps({"activation": "batchtopk", "k": K, "threshold": 0.4})
    )
    return folder


def write_clipscope(folder: Path, w: Weights) -> Path:
    state = {"pre_b": b(w, "b_dec"), "enc": b(w, "W_enc"), "dec": b(w, "W_dec")}
    torch.save(
        {"n_features": S, "d_in": D, "k": K, "model_state_dict": state}, folder / "120013184.pt"
    )
    return folder


def write_usae(folder: Path, w: Weights) -> Path:
    state = {
        "encoder.final_block.0.weight": torch.from_numpy(w["W_enc"].T.copy()),
        "encoder.final_block.0.bias": b(w, "b_enc"),
        "dictionary._weights": b(w, "W_dec"),
        "dictionary.multiplier": torch.tensor(0.25),
    }
    torch.save({"epoch": 1, "model_state_dict": state}, folder / "uni_ViT_checkpoint_1.pth")
    model = {"checkpoint_path": "x/uni_ViT_checkpoint_1.pth", "model_mean": 0.5, "model_std": 2.0}
    config = {"sae_params": {"top_k": K}, "model_zoo": {"ViT": model}}
    (folder / "config.json").write_text(json.dumps(config))  # YAML, too
    return folder


def usae_scaled(x: Array) -> Array:
    return (x - 0.5) / (2.0 + 1e-5)


def usae_decode(f: Array, x: Array, w: Weights) -> Array:
    return overcomplete_decode(f, x, w) * (2.0 + 1e-5) + 0.5


def openai(activation: str, **values: Any) -> Callable[[Path, Weights], Path]:
    def write(folder: Path, w: Weights) -> Path:
        state = linear(w, pre_bias=b(w, "b_dec"), latent_bias=b(w, "b_enc"))
        state |= {"activation": activation, "activation_state_dict": values}
        torch.save({**state, "stats_last_nonzero": torch.zeros(S)}, folder / "sae.pt")
        return folder

    return write


def pickled(module: str, name: str, **values: Any) -> Any:
    """An object of a class of that module and name, while `torch.save` looks for it."""
    kind = type(name, (), {"__module__": module})
    made = kind()
    vars(made).update(values)
    return made


def save_pickled(value: Any, path: Path, *objects: Any) -> None:
    """`torch.save` of a value that holds objects of classes that are not installed."""
    modules: dict[str, Any] = {}
    for one in objects:
        module = modules.setdefault(type(one).__module__, ModuleType(type(one).__module__))
        setattr(module, type(one).__name__, type(one))
    steps = [name.split(".") for name in modules]
    parents = {".".join(parts[:n]) for parts in steps for n in range(1, len(parts))}
    with mock.patch.dict(sys.modules, {**{p: ModuleType(p) for p in parents}, **modules}):
        torch.save(value, path)


def checkpoint(module: str, name: str, key: str = "cfg", **values: Any) -> Any:
    """A file of a pickled config and a state dict; a config without a class where `name` is ""."""

    def write(folder: Path, w: Weights) -> Path:
        plain = {"d_in": D, "device": torch.device("cuda"), "dtype": torch.float32, **values}
        config = pickled(module, name, **plain) if name else plain
        state = tensors(w, "W_enc", "b_enc", "W_dec", "b_dec")
        held = {key: config, "state_dict": state}
        save_pickled(held, folder / "weights.pt", *([config] if name else []))
        return folder

    return write


@dataclass(frozen=True)
class Case:
    """How one kind of autoencoder of a format is written, and what it computes."""

    format: str
    write: Callable[[Path, Weights], Path]
    encode: Callable[[Array, Weights], Array]
    decode: Callable[[Array, Array, Weights], Array] = plain_decode
    warning: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


NO_THRESHOLD = "no BatchTopK threshold"
SILENT = "does not say whether b_dec"
CASES = {
    # saev
    "saev legacy": Case("saev", saev(LEGACY), lambda x, w: relu(pre_centred(x, w))),
    "saev 1 relu": Case(
        "saev", saev(saev_1("Relu")), lambda x, w: relu(pre(x, w)), warning=SILENT
    ),
    "saev 1 relu, told": Case(
        "saev", saev(saev_1("Relu")), lambda x, w: relu(pre_centred(x, w)),
        options={"centre_input": "yes"},
    ),
    "saev 1 known old commit": Case(
        "saev", saev({**saev_1("TopK", top_k=K), "commit": "d991de3d"}),
        lambda x, w: top_k(pre_centred(x, w)),
    ),
    "saev 1 known new commit": Case(
        "saev", saev({**saev_1("TopK", top_k=K), "commit": "5fee417"}),
        lambda x, w: top_k(pre(x, w)),
    ),
    "saev 1 batch-top-k": Case(
        "saev", saev({**saev_1("BatchTopK", top_k=K), "commit": "5fee417"}),
        lambda x, w: relu(pre(x, w)), warning=NO_THRESHOLD,
    ),
    "saev 1 with an activation": Case(
        "saev",
        saev(saev_1("SparseAutoencoderConfig", activation={"cls": "TopK", "params": {"top_k": K}})),
        lambda x, w: top_k(pre(x, w)), options={"centre_input": "no"},
    ),
    "saev 1 without an activation": Case(
        "saev", saev(saev_1("SparseAutoencoderConfig")), lambda x, w: relu(pre(x, w)),
        options={"centre_input": "no"},
    ),
    "saev 2": Case("saev", saev(saev_header(2, "TopK", top_k=K)), lambda x, w: top_k(pre(x, w))),
    "saev 3": Case(
        "saev", saev(saev_header(3, "Relu", sparsity={"coeff": 4e-4})),
        lambda x, w: relu(pre(x, w)),
    ),
    "saev 4": Case("saev", saev(saev_header(4, "Relu", sparsity={})), lambda x, w: relu(pre(x, w))),
    "saev 5": Case(
        "saev",
        saev(saev_header(5, "BatchTopK", top_k=K), activation__threshold=torch.tensor(0.7)),
        lambda x, w: above(pre(x, w), 0.7),
    ),
    "saev 5, threshold below 0": Case(
        "saev",
        saev(saev_header(5, "BatchTopK", top_k=K), activation__threshold=torch.tensor(-1.0)),
        lambda x, w: relu(pre(x, w)),
    ),
    # SAELens
    "saelens standard": Case(
        "saelens", saelens("b_enc", architecture="standard"), lambda x, w: relu(pre_centred(x, w))
    ),
    "saelens not centred": Case(
        "saelens", saelens("b_enc", architecture="standard", apply_b_dec_to_input=False),
        lambda x, w: relu(pre(x, w)),
    ),
    "saelens topk": Case(
        "saelens", saelens("b_enc", architecture="topk", k=K),
        lambda x, w: relu(top_k(pre_centred(x, w))),
    ),
    "saelens topk, rescaled": Case(
        "saelens",
        saelens("b_enc", architecture="topk", k=K, rescale_acts_by_decoder_norm=True),
        lambda x, w: relu(top_k(pre_centred(x, w) * row_norms(w))), rescaled_decode,
    ),
    "saelens jumprelu": Case(
        "saelens", saelens("b_enc", "threshold", architecture="jumprelu"),
        lambda x, w: above(pre_centred(x, w), w["threshold"]),
    ),
    "saelens gated": Case(
        "saelens", saelens("b_gate", "b_mag", "r_mag", architecture="gated"),
        lambda x, w: gate(x - w["b_dec"], w),
    ),
    "saelens layer norm": Case(
        "saelens",
        saelens("b_enc", architecture="standard", normalize_activations="layer_norm"),
        lambda x, w: relu(pre_centred(layer_norm(x)[0], w)), layer_norm_decode,
    ),
    "saelens constant norm, topk": Case(
        "saelens",
        saelens("b_enc", architecture="topk", k=K, normalize_activations="constant_norm_rescale"),
        lambda x, w: relu(top_k(pre_centred(constant_norm(x), w))), constant_norm_decode,
    ),
    "saelens flat": Case(
        "saelens",
        saelens(
            "b_enc", flat=True, hook_point="blocks.9.hook_resid_post", activation_fn_str="relu",
            normalize_activations=False,
        ),
        lambda x, w: relu(pre_centred(x, w)),
    ),
    "saelens flat topk": Case(
        "saelens",
        saelens(
            "b_enc", flat=True, architecture="standard", activation_fn_str="topk",
            activation_fn_kwargs={"k": K}, apply_b_dec_to_input=False,
        ),
        lambda x, w: relu(top_k(pre(x, w))),
    ),
    # dictionary_learning
    "dl AutoEncoder": Case(
        "dictionary_learning",
        dictionary_learning(
            "AutoEncoder",
            lambda w: linear(w, **{"encoder.bias": b(w, "b_enc"), "bias": b(w, "b_dec")}),
        ),
        lambda x, w: relu(pre_centred(x, w)) * row_norms(w), rescaled_decode,
    ),
    "dl AutoEncoderNew": Case(
        "dictionary_learning",
        dictionary_learning(
            "AutoEncoderNew",
            lambda w: linear(w, **{"encoder.bias": b(w, "b_enc"), "decoder.bias": b(w, "b_dec")}),
        ),
        lambda x, w: relu(pre(x, w)),
    ),
    "dl GatedAutoEncoder": Case(
        "dictionary_learning",
        dictionary_learning(
            "GatedAutoEncoder",
            lambda w: linear(
                w, gate_bias=b(w, "b_gate"), mag_bias=b(w, "b_mag"), r_mag=b(w, "r_mag"),
                decoder_bias=b(w, "b_dec"),
            ),
        ),
        lambda x, w: gate(x - w["b_dec"], w),
    ),
    "dl AutoEncoderTopK": Case(
        "dictionary_learning",
        dictionary_learning(
            "AutoEncoderTopK",
            lambda w: linear(
                w, **{"encoder.bias": b(w, "b_enc")}, b_dec=b(w, "b_dec"),
                k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(0.4),
            ),
        ),
        lambda x, w: top_k(relu(pre_centred(x, w))),
    ),
    "dl BatchTopKSAE": Case(
        "dictionary_learning",
        dictionary_learning(
            "BatchTopKSAE",
            lambda w: linear(
                w, **{"encoder.bias": b(w, "b_enc")}, b_dec=b(w, "b_dec"),
                k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(0.4),
            ),
        ),
        lambda x, w: above(pre_centred(x, w), 0.4),
    ),
    "dl MatryoshkaBatchTopKSAE": Case(
        "dictionary_learning",
        dictionary_learning(
            "MatryoshkaBatchTopKSAE",
            lambda w: {
                **tensors(w, "W_enc", "b_enc", "W_dec", "b_dec"),
                "threshold": torch.tensor(0.6), "k": torch.tensor(K, dtype=torch.int),
                "group_sizes": torch.tensor([4, 8]),
            },
        ),
        lambda x, w: above(pre_centred(x, w), 0.6),
    ),
    "dl JumpReluAutoEncoder": Case(
        "dictionary_learning",
        dictionary_learning(
            "JumpReluAutoEncoder",
            lambda w: tensors(w, "W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
        ),
        lambda x, w: relu(pre(x, w) * (pre(x, w) > w["threshold"])),
    ),
    # sparsify
    "sparsify": Case("sparsify", write_sparsify, lambda x, w: top_k(relu(pre_centred(x, w)))),
    "visaebench": Case(
        "visaebench", write_visaebench,
        lambda x, w: np.where(pre(x, w) >= np.float32(0.4), pre(x, w), 0),
    ),
    "clipscope": Case(
        "clipscope", write_clipscope, lambda x, w: top_k((x - w["b_dec"]) @ w["W_enc"])
    ),
    "usae": Case(
        "usae", write_usae, lambda x, w: relu(top_k(pre(usae_scaled(x), w))), usae_decode
    ),
    "openai relu": Case("openai", openai("ReLU"), lambda x, w: relu(pre_centred(x, w))),
    "openai topk": Case(
        "openai", openai("TopK", k=K, postact_fn="Identity"),
        lambda x, w: top_k(pre_centred(layer_norm(x)[0], w)), layer_norm_decode,
    ),
    "patchsae": Case(
        "patchsae",
        checkpoint("src.sae_training.config", "ViTSAERunnerConfig", block_layer=-2,
                   module_name="resid"),
        lambda x, w: relu(pre_centred(x, w)),
    ),
    "patchsae, a plain config": Case(
        "patchsae", checkpoint("", "", key="config"), lambda x, w: relu(pre_centred(x, w))
    ),
    "prisma, pickled": Case(
        "prisma",
        checkpoint("vit_prisma.sae.config", "VisionModelSAERunnerConfig", architecture="standard",
                   activation_fn_str="topk", activation_fn_kwargs={"k": K},
                   normalize_activations=None, hook_point="blocks.9.hook_resid_post"),
        lambda x, w: relu(top_k(pre_centred(x, w))),
    ),
    "prisma, pickled, by default": Case(
        "prisma", checkpoint("vit_prisma.sae.config", "VisionModelSAERunnerConfig"),
        lambda x, w: relu(pre_centred(layer_norm(x)[0], w)), layer_norm_decode,
    ),
    # overcomplete
    "overcomplete SAE": Case(
        "overcomplete", overcomplete(), lambda x, w: relu(pre(x, w)), overcomplete_decode
    ),
    "overcomplete TopKSAE": Case(
        "overcomplete", overcomplete("encoder.0", top_k=K),
        lambda x, w: top_k(relu(pre(x, w))), overcomplete_decode,
    ),
    "overcomplete batch norm": Case(
        "overcomplete", overcomplete("encoder.0", BATCH_NORM),
        lambda x, w: relu(batch_norm(pre(x, w))), overcomplete_decode,
    ),
    "overcomplete BatchTopKSAE": Case(
        "overcomplete", overcomplete(threshold=0.5),
        lambda x, w: above(pre(x, w), 0.5), overcomplete_decode,
    ),
    "overcomplete JumpSAE": Case(
        "overcomplete", overcomplete(more={"thresholds": torch.linspace(-2, 0, S)}),
        lambda x, w: above(pre(x, w), np.exp(np.linspace(-2, 0, S))), overcomplete_decode,
    ),
    "overcomplete, own dictionary": Case(
        "overcomplete",
        overcomplete(
            "encoder", {"dictionary.multiplier": torch.tensor(0.0)}, normalization="identity"
        ),
        lambda x, w: relu(pre(x, w)), lambda f, _x, w: f @ w["W_dec"],
    ),
    # Prisma
    "prisma": Case(
        "prisma", prisma("b_enc"), lambda x, w: relu(pre_centred(layer_norm(x)[0], w)),
        layer_norm_decode,
    ),
    "prisma top-k, no norm": Case(
        "prisma",
        prisma(
            "b_enc", file="n_images_2600058.pt", normalize_activations=None,
            activation_fn_str="topk", activation_fn_kwargs={"k": K},
        ),
        lambda x, w: relu(top_k(pre_centred(x, w))),
    ),
    "prisma gated": Case(
        "prisma", prisma("b_enc", "b_gate", "b_mag", "r_mag", architecture="gated"),
        lambda x, w: gate(layer_norm(x)[0] - w["b_dec"], w), layer_norm_decode,
    ),
}  # fmt: skip
"""Every kind of autoencoder of every format."""

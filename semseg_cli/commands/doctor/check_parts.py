"""Checks of the parts by themselves and of their shapes: nothing is computed yet."""

import re
from collections.abc import Callable

import torch

from semseg_cli.commands.doctor.findings import Finding, NotApplicableError
from semseg_cli.commands.doctor.patient import EVALUATION, LOOKUP, Patient, bad, doubtful, good
from semseg_cli.data.dataset import check_layout, open_dataset
from semseg_cli.demo.world import ensure_world, world_folder
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.session import check_expectations, find_class, find_device, load_stats
from semseg_cli.models import sae as saes
from semseg_cli.models.head import load_head, require_one_block
from semseg_cli.models.memory_budget import make_budget
from semseg_cli.models.pipeline import require_width
from semseg_cli.models.sae.statistics import NAMES
from semseg_cli.models.vit import load_vit
from semseg_cli.settings.toml_files import INPUTS


def options(patient: Patient) -> Finding:
    """Are the four inputs named? The head may be still to be trained."""
    values = {**vars(patient.setup), "imgs_root": patient.setup.imgs.root}
    missing = [name for name in INPUTS if values[name] is None]
    found = ", ".join(f"no --{name.replace('_', '-')}" for name in missing)
    if missing == ["seg_ckpt"]:
        return doubtful(
            found,
            "Without a head only lookup by F1 works: name one with --seg-ckpt, or make one with "
            "`semseg-cli train-head`.",
        )
    if missing:
        return bad(found, "Name all inputs, or take --preset demo.")
    return good("all inputs are named")


def device(patient: Patient) -> Finding:
    """Is the device there?"""
    patient.device = find_device(patient.setup.device)
    return good(f"{patient.device}, {patient.setup.dtype}")


def head(patient: Patient) -> Finding:
    """Can the head be read?"""
    patient.head = load_head(str(patient.given("seg_ckpt")), patient.setup.background).to(
        patient.device
    )
    return good(f"reads width {patient.head.in_features}, knows {patient.head.n_classes} classes")


def dataset(patient: Patient) -> Finding:
    """Is there a folder in a known layout, with the split to evaluate on?"""
    setup, root = patient.setup, patient.given("imgs_root")
    if root == world_folder(patient.cache):
        ensure_world(patient.cache, patient.progress)
    layout, _ = check_layout(root, setup.imgs.split, setup.data_format)
    return good(f"{layout.title(root)}, layout {layout.name}")


def split(role: str) -> Callable[[Patient], Finding]:
    """Does every image of a split have its mask, and do their headers fit?"""

    def check(patient: Patient) -> Finding:
        setup = patient.setup
        is_evaluated = role == EVALUATION
        name = setup.imgs.split if is_evaluated else setup.lookup_split
        found = open_dataset(
            patient.given("imgs_root"),
            name,
            patch_size_px=1,  # no patch is cut before the ViT is known
            n_images=setup.images if is_evaluated else setup.lookup_images,
            n_classes=patient.head.n_classes if patient.head else None,
            data_format=setup.data_format,
            background=setup.background,
            skip_bad=setup.skip_bad,
            progress=patient.progress,
        )
        patient.datasets[role] = found
        said = f"{found.split}, {len(found)} images with masks"
        said += f", {len(found.skipped)} skipped" if found.skipped else ""
        evaluated = patient.datasets.get(EVALUATION)
        if role == LOOKUP and evaluated and evaluated.split == found.split:
            return doubtful(
                said, "Latents are chosen on the split that they are judged on: expect too good "
                "numbers, or give another --lookup-split.",
            )  # fmt: skip
        return good(said)

    return check


def classes(patient: Patient) -> Finding:
    """Do head and dataset know the same classes, and do these have names?"""
    names = patient.datasets[EVALUATION].class_names
    known = patient.head
    if known and known.n_classes != len(names):
        return bad(
            f"dataset {len(names)}, head {known.n_classes}",
            f"The head knows {known.n_classes} classes (and null), the dataset {len(names)}: check "
            "--seg-ckpt against --imgs-root (and --background).",
        )
    for one in patient.setup.classes:
        find_class(one, names)
    if all(name.isdecimal() for name in names):
        return doubtful(
            f"{len(names)}, without names",
            "The dataset has no class names, ids stand for them: add its class file "
            "(objectInfo150.txt, labels.txt, or `classes` in dataset.toml) to check that ids and "
            "head agree.",
        )
    return good(f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")


def vit(patient: Patient) -> Finding:
    """Can the ViT be loaded, as the family that is named?"""
    setup = patient.setup
    ckpt, dtype = str(patient.given("vit_ckpt")), getattr(torch, setup.dtype)
    found = load_vit(ckpt, setup.vit_family, patient.device, dtype, setup.image_hw)
    found.budget = make_budget(setup.memory_budget, patient.device)
    patient.vit = found
    return good(f"{setup.vit_family}, {found.n_layers} layers, width {found.d_model}")


def layer(patient: Patient) -> Finding:
    """Does the layer exist?"""
    wanted, n_layers = patient.setup.vit_layer, patient.vit.n_layers
    if wanted > n_layers:
        return bad(
            f"{wanted} of {n_layers}",
            f"Layer {wanted} does not exist: give --vit-layer from 1 to {n_layers}.",
        )
    return good(f"{wanted} of {n_layers}, counted from 1")


def tokens(patient: Patient) -> Finding:
    """Is the token layout the expected one?"""
    check_expectations(patient.setup, patient.vit)
    found = patient.vit
    height, width = found.preprocessing.crop
    side = found.patch_size_px
    return good(
        f"image {height} x {width}, patches {height // side} x {width // side} of {side} px, "
        f"{found.n_prefix_tokens} prefix tokens"
    )


def _width(part: str, reads: int, has: int, option: str) -> Finding:
    try:
        require_width(part, reads, has, option)
    except SemsegError as error:
        return bad(f"{part} {reads}, ViT {has}", str(error))
    return good(f"{reads}, as the ViT")


def head_width(patient: Patient) -> Finding:
    """Does the head read what the ViT gives?"""
    if patient.head is None:
        raise NotApplicableError("--seg-ckpt")
    require_one_block(patient.head, patient.vit.d_model)
    return _width("head", patient.head.in_features, patient.vit.d_model, "--seg-ckpt")


def sae(patient: Patient) -> Finding:
    """Can the SAE be read, and as what?"""
    setup, path = patient.setup, str(patient.given("sae_ckpt"))
    patient.sae = saes.load_undecided(
        path, patient.device, setup.sae_format, setup.sae_centre_input
    )
    patient.sae.budget = make_budget(setup.memory_budget, patient.device)
    kind = type(patient.sae.activation).__name__
    name = saes.format_name(path, setup.sae_format)
    return good(f"{name}, width {patient.sae.d_model}, {patient.sae.d_sae} latents, {kind}")


def sae_width(patient: Patient) -> Finding:
    """Does the SAE read what the ViT gives?"""
    return _width("SAE", patient.sae.d_model, patient.vit.d_model, "--sae-ckpt")


def sae_layer(patient: Patient) -> Finding:
    """Was the SAE trained on the layer in use, if its file says so?"""
    name, used = patient.sae.hook_name, patient.setup.vit_layer
    if re.search("mlp|attn", name or ""):
        return doubtful(
            f"{name}",
            f"The SAE's file says {name}, which is no residual stream: latents of this SAE cannot "
            "be judged here, give one of the residual stream as --sae-ckpt.",
        )
    number = re.search(r"(?:blocks|layers?|h)\.(\d+)", name or "")
    if number is None:
        return good("the file does not say")
    trained = int(number[1]) + ("resid_pre" not in str(name))
    if trained != used:
        return doubtful(
            f"{name}: layer {trained}",
            f"The SAE's file says {name}, which is layer {trained} counted from 1, and "
            f"--vit-layer is {used}: try --vit-layer {trained}.",
        )
    return good(f"{name}: layer {trained}")


def statistics(patient: Patient) -> Finding:
    """Are the given statistics readable and in shape, and which are missing?"""
    patient.given_stats = load_stats(patient.setup, patient.sae)
    missing = [name for name in NAMES if name not in patient.given_stats]
    return good(f"to be computed: {', '.join(missing)}" if missing else "all are given")

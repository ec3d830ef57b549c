"""Checks of the parts by themselves and of their shapes: nothing is computed yet."""

from collections.abc import Callable, Sequence

from semseg_cli.commands.doctor.findings import Finding, NotApplicableError
from semseg_cli.commands.doctor.patient import (
    EVALUATION,
    LOOKUP,
    Patient,
    bad,
    doubtful,
    good,
    kept,
)
from semseg_cli.experiment.images import classes_of, find_data, open_split, require_same_classes
from semseg_cli.experiment.named_inputs import missing_inputs
from semseg_cli.experiment.parts import (
    check_expectations,
    find_device,
    load_stats,
    read_backbone,
    read_head,
    read_sae,
)
from semseg_cli.experiment.place import require_patches
from semseg_cli.models import sae as saes
from semseg_cli.models.pipeline import require_fitting, require_layer, require_width
from semseg_cli.models.sae.statistics import NAMES
from semseg_cli.runs.groups import group_names, suggestion


def options(patient: Patient) -> Finding:
    """Are the four inputs named? The head may be still to be trained."""
    missing = missing_inputs(patient.setup)
    found = ", ".join(f"no {option}" for option in missing)
    if missing == ["--seg-ckpt"]:
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
    patient.given("seg_ckpt")
    patient.head = read_head(patient.setup, patient.device)
    return good(f"reads width {patient.head.in_features}, knows {patient.head.n_classes} classes")


def dataset(patient: Patient) -> Finding:
    """Is there a folder in a known layout, with the split to evaluate on?"""
    root = patient.given("imgs_root")
    (layout,) = find_data(patient.setup, [patient.setup.imgs.split], patient.progress)
    return good(f"{layout.title(root)}, layout {layout.name}")


def split(role: str) -> Callable[[Patient], Finding]:
    """Does every image of a split have its mask, and do their headers fit?"""

    def check(patient: Patient) -> Finding:
        setup = patient.setup
        is_evaluated = role == EVALUATION
        found = open_split(
            setup,
            None,
            setup.imgs.split if is_evaluated else setup.lookup_split,
            setup.images if is_evaluated else setup.lookup_images,
            patient.progress,
            n_classes=patient.head.n_classes if patient.head else None,
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
        return _grouped(said, found.names, setup.group_by) if is_evaluated else good(said)

    return check


def _grouped(said: str, names: Sequence[str], group_by: str | None) -> Finding:
    """Whether images that belong together count as one."""
    if group_by is not None:
        return good(f"{said}, in {len(set(group_names(names, group_by)))} groups")
    advice = suggestion(names)
    return good(said) if advice is None else doubtful(said, advice)


def classes(patient: Patient) -> Finding:
    """Do head and dataset know the same classes, and do these have names?"""
    names = patient.datasets[EVALUATION].class_names
    known = patient.head
    said = f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    broken = f"dataset {len(names)}, head {known.n_classes}" if known else ""
    found = kept(said, lambda: require_same_classes(known, names), broken)
    if found.status == "fail":
        return found
    classes_of(patient.setup, names)
    if all(name.isdecimal() for name in names):
        return doubtful(
            f"{len(names)}, without names",
            "The dataset has no class names, ids stand for them: add its class file "
            "(objectInfo150.txt, labels.txt, or `classes` in dataset.toml) to check that ids and "
            "head agree.",
        )
    return found


def vit(patient: Patient) -> Finding:
    """Can the ViT be loaded, as the family that is named?"""
    patient.given("vit_ckpt")
    patient.vit = found = read_backbone(patient.setup, patient.device)
    said = f"{patient.setup.vit_family}, {found.n_layers} layers, width {found.d_model}"
    return good(f"{said}; not used: {', '.join(found.unused)}" if found.unused else said)


def layer(patient: Patient) -> Finding:
    """Does the layer exist?"""
    place, n_layers = patient.place, patient.vit.n_layers
    said = f"{place.layer} of {n_layers}"
    return kept(
        f"{said}, counted from 1; {place.site}",
        lambda: require_layer(place.layer, n_layers, place.site),
        said,
    )


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


def head_width(patient: Patient) -> Finding:
    """Does the head read what the ViT gives?"""
    if patient.head is None:
        raise NotApplicableError("--seg-ckpt")
    head, has = patient.head, patient.vit.d_model
    reads = head.in_features
    broken = f"head {reads}, ViT {has}"
    return kept(f"{reads}, as the ViT", lambda: require_fitting(head, has), broken)


def sae(patient: Patient) -> Finding:
    """Can the SAE be read, and as what?"""
    setup, path = patient.setup, str(patient.given("sae_ckpt"))
    patient.sae = read_sae(setup, patient.device)
    kind = type(patient.sae.nonlinearity).__name__
    name = saes.format_name(path, setup.sae_format)
    return good(f"{name}, width {patient.sae.d_model}, {patient.sae.d_sae} latents, {kind}")


def sae_width(patient: Patient) -> Finding:
    """Does the SAE read what the ViT gives?"""
    reads, has = patient.sae.d_model, patient.vit.d_model
    broken = f"SAE {reads}, ViT {has}"
    return kept(
        f"{reads}, as the ViT", lambda: require_width("SAE", reads, has, "--sae-ckpt"), broken
    )


def sae_layer(patient: Patient) -> Finding:
    """Was the SAE trained on patches at the layer and site in use, if its file says so?"""
    trained, place = patient.sae.trained_at, patient.place
    warning = require_patches(patient.setup, patient.sae)
    where = f"{place.site} of layer {place.layer}"
    if place.notes or warning:
        return doubtful(trained.said or where, " ".join((*place.notes, *filter(None, [warning]))))
    return good(f"{trained.said}: {where}" if trained.said else "the file does not say")


def statistics(patient: Patient) -> Finding:
    """Are the given statistics readable and in shape, and which are missing?"""
    patient.given_stats = load_stats(patient.setup, patient.sae)
    missing = [name for name in NAMES if name not in patient.given_stats]
    return good(f"to be computed: {', '.join(missing)}" if missing else "all are given")

"""Checks of where a run writes, and of what it costs."""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from semseg_cli import tracking
from semseg_cli.commands.doctor.findings import Finding
from semseg_cli.commands.doctor.patient import EVALUATION, LOOKUP, Patient, doubtful, good
from semseg_cli.engine.thresholds import SHARES
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.estimate import make_plan
from semseg_cli.experiment.parts import residual_cache
from semseg_cli.files import cannot_write, nearest_folder
from semseg_cli.models.cache_room import Keeping
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.tracking import store_address as stores

GIB = 2**30
RUN_BYTES = 100 * 2**20  # a run folder with pictures, generously


def store(patient: Patient) -> Finding:
    """Does the tracking store answer? A SQLite file is not made for asking."""
    if patient.checkup.no_track:
        return good("not tracked")
    uri = stores.resolve_uri(patient.checkup.tracking_uri)
    path = stores.sqlite_path(uri)
    tracking.probe(uri)
    if path is not None and not path.exists():
        return good(f"new file {_short(path)}")
    return good(_short(path) if path else stores.public(uri))


def run_folder(patient: Patient) -> Finding:
    """Can run folders be made?"""
    return _writable(patient.checkup.dump_to, "--dump-to")


def cache_folder(patient: Patient) -> Finding:
    """Can statistics be cached?"""
    return _writable(patient.cache, "--cache-dir")


def _writable(folder: Path, option: str) -> Finding:
    there = nearest_folder(folder)
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise cannot_write(folder, error, option) from error
    return good(_short(folder))


def _short(path: Path) -> str:
    """A path that leaves the table its width: the end of a long one."""
    text = str(path)
    return text if len(text) <= 40 else f"...{text[-37:]}"


def disk(patient: Patient) -> Finding:
    """Is there room for run folders, and for residuals: kept ones, or while statistics are made?"""
    keepings = _keepings(patient)
    refused = [keeping.refused for keeping in keepings if keeping.refused]
    residuals = sum(keeping.n_bytes for keeping in keepings if not keeping.refused)
    if not keepings or keepings[0].refused:
        residuals += _scratch_bytes(patient)
    needs = {patient.checkup.dump_to: RUN_BYTES, patient.cache: residuals}
    free = min(_require_room(folder, n_bytes) for folder, n_bytes in needs.items())
    said = f"{free / GIB:.1f} GiB free, {sum(needs.values()) / GIB:.1f} GiB needed"
    if refused:
        return doubtful(
            said,
            f"Not all residuals are kept: {'; '.join(refused)}. Give a larger --cache-limit, "
            "another --cache-dir, or --no-cache.",
        )
    return good(said)


def _require_room(folder: Path, n_bytes: int) -> int:
    """The free bytes; refuses too few."""
    free = shutil.disk_usage(nearest_folder(folder)).free
    if free < n_bytes:
        raise SemsegError(
            f"{folder} has {free / GIB:.1f} GiB free, {n_bytes / GIB:.1f} GiB are needed: free "
            "some space, or give another --dump-to or --cache-dir, or fewer --lookup-images."
        )
    return free


def _keepings(patient: Patient) -> list[Keeping]:
    """What a run would add to the residual cache, first of the lookup split."""
    cache = residual_cache(patient.setup)
    if cache is None:
        return []
    seen = [patient.seen(role) for role in (LOOKUP, EVALUATION) if role in patient.datasets]
    place = patient.place
    return list(cache.foresee(patient.vit, place.layer, seen, place.site).values())


def _scratch_bytes(patient: Patient) -> int:
    if {"act_mean", "act_norm"} <= patient.given_stats.keys():
        return 0
    vit = patient.vit
    return len(patient.datasets[LOOKUP]) * vit.n_patches_per_img * vit.d_model * 4


def memory(patient: Patient) -> Finding:
    """Is there memory for weights, tensors of a run and the counts of the lookup?"""
    vit, sae = patient.vit, patient.sae
    weights = sum(t.numel() * t.element_size() for t in (*vit.parameters(), *sae.buffers()))
    n_classes = len(patient.datasets[EVALUATION].class_names)
    network = vit.network_at(patient.place.site)
    tensors = vit.budget.n_bytes_used(network, patient.setup.batch_size, n_classes + 1, sae.d_sae)
    counts = 2 * (n_classes + 1) * len(SHARES) * sae.d_sae * 8
    needed, free = weights + tensors + counts, _free_memory(patient.device)
    said = f"about {needed / GIB:.1f} GiB needed, {free / GIB:.1f} GiB free on {patient.device}"
    if needed > free:
        return doubtful(
            said,
            "A run may not fit into memory: give a smaller --memory-budget (in GiB), or "
            "--dtype bfloat16.",
        )
    return good(said, needed_bytes=needed, free_bytes=free)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def time(patient: Patient) -> Finding:
    """How long would auto-feat take, or lookup where there is no head?"""
    method = AutoFeat() if patient.fitting_head else Choose()
    plan = make_plan(patient.session(), [method])
    took = f"{plan.seconds / 60:.1f} min" if plan.seconds >= 120 else f"{plan.seconds:.0f} s"
    passes = f"{plan.n_prefixes} passes up to the layer, {plan.tails} after"
    return good(f"{method.command}: about {took}, {passes}", seconds=plan.seconds)

"""`run` and `lookup`: what the commands do, up to what they print."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from semseg_cli.api.lookups import Lookup
from semseg_cli.api.own_folder import OwnFolder
from semseg_cli.api.parts import Parts, given, merged
from semseg_cli.api.results import Result, Run
from semseg_cli.api.settings import chosen_for, made, values_of
from semseg_cli.api.statistics import as_files
from semseg_cli.commands.lookup import look_up_recorded, tried
from semseg_cli.commands.method_runs import Finished, run_recorded
from semseg_cli.commands.opening import open_parts, open_store
from semseg_cli.commands.recording import require_tracked
from semseg_cli.commands.results import extremes_of, names_of, rows_of, summary_of
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.data.held import Data
from semseg_cli.errors import UsageError
from semseg_cli.experiment.samples import with_draws
from semseg_cli.files import expanded
from semseg_cli.ranks.group import n_ranks
from semseg_cli.settings.base import Settings, narrow
from semseg_cli.settings.inputs import LookupSetup, Setup
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import METHODS, Method
from semseg_cli.settings.output import Output, Shown
from semseg_cli.show import console

COMMANDS = {kind.command: kind for kind in METHODS}


def run(
    method: str | Method | Sequence[str | Method] = "auto-feat",
    *,
    vit: str | Path | nn.Module | None = None,
    sae: str | Path | nn.Module | None = None,
    head: str | Path | nn.Module | None = None,
    data: str | Path | Data | None = None,
    processor: Any = None,
    has_null: bool = True,
    lookup: str | Path | Lookup | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    dump_to: str | Path | None = None,
    track: bool = False,
    **options: Any,
) -> Result:
    """The runs of one or several methods, all from one pass over the images.

    Without a preset, a settings file or a part it is the demo world, as for the commands. What is
    given in memory is copied or left as it was; no file is written, but in the cache.

    Args:
        method: the command of a method ("auto-feat", "rand-feat", "mean-diff", ...), its settings
            object, or several of them.
        vit: a transformers model in memory; else as --vit-ckpt.
        sae: a module with `encode` and `decode`; else as --sae-ckpt.
        head: an `nn.Linear` on patch tokens after the final norm; else as --seg-ckpt.
        data: `Data(...)`; else as --imgs-root.
        processor: the image processor of a model in memory, where it is not the usual one.
        has_null: whether output 0 of a head in memory is null, which is never predicted.
        lookup: what `semseg_cli.lookup` gave; else as --lookup.
        preset: as --preset.
        config: as --config.
        dump_to: writes run folders here, as the commands do.
        track: sends the runs to MLflow; the folders are in `dump_to`, or in semseg-runs.
        options: all others of the commands, by the same names: scale, vit_layer, select, ...;
            act_mean, act_norm, sparsity and top_values may be tensors.

    Raises:
        SemsegError: what the commands say in a sentence.
    """
    _require_one_rank()
    parts = Parts(vit, sae, head, data, processor, has_null)
    asked = [method] if isinstance(method, str | Method) else list(method)
    if not asked:
        raise UsageError(f"No method is given: choose among {', '.join(COMMANDS)}")
    kinds = [_kind(one) for one in asked]
    source = str(lookup.path if isinstance(lookup, Lookup) else lookup) if lookup else None
    options |= {"lookup": source} if source else {}
    named = merged(parts, as_files(options, config))
    open_kinds = [kind for one, kind in zip(asked, kinds, strict=True) if isinstance(one, str)]
    values = values_of([Setup, *open_kinds, Shown], named, (preset, config))
    setup = made(Setup, values)
    methods = [
        made(k, chosen_for(k, values, open_kinds)) if isinstance(m, str) else m
        for m, k in zip(asked, kinds, strict=True)
    ]
    _check_name(values, methods)
    with _places(dump_to, track) as (fixed, temporary):
        _check_examples(values, temporary)
        output = made(Shown, values, **fixed)
        store = open_store(output)
        sources = {one.lookup for one in methods if one.lookup}
        reused = {one: read_reused(one, output.tracking_uri) for one in sources}
        with (
            console.progress_bars(quiet=output.quiet) as progress,
            given(parts, setup.image_size) as held,
        ):
            uses_sae = any(one.needs_statistics for one in methods)
            session = open_parts(setup, output, progress, uses_sae=uses_sae, given=held)
            drawn = [with_draws(session, one) for one in methods]
            runs = run_recorded(session, drawn, reused, output, store, progress)
        if store is not None:
            require_tracked([one.folder for one in runs])
        return _result(runs, temporary)


def lookup(
    *,
    vit: str | Path | nn.Module | None = None,
    sae: str | Path | nn.Module | None = None,
    head: str | Path | nn.Module | None = None,
    data: str | Path | Data | None = None,
    processor: Any = None,
    has_null: bool = True,
    preset: str | None = None,
    config: str | Path | None = None,
    dump_to: str | Path | None = None,
    track: bool = False,
    **options: Any,
) -> Lookup:
    """The latents of each class, as the command `lookup` chooses them; arguments as of `run`.

    The head is used by select="causal" and "cause" alone.

    Raises:
        SemsegError: what the command says in a sentence.
    """
    _require_one_rank()
    parts = Parts(vit, sae, head, data, processor, has_null)
    values = values_of(
        [LookupSetup, Choose, Output], merged(parts, as_files(options, config)), (preset, config)
    )
    base = made(LookupSetup, values)
    choice = tried(made(Choose, values))
    if len(choice.scale) > 1:
        raise UsageError(f"scale is {choice.scale}: give one, a choice is made at one scale")
    with _places(dump_to, track) as (fixed, temporary):
        output = made(Output, values, **fixed)
        store = open_store(output)
        with (
            console.progress_bars(quiet=output.quiet) as progress,
            given(parts, base.image_size) as held,
        ):
            setup = narrow(base, Setup)
            session = open_parts(
                *(setup, output, progress), needs_head=choice.tries_edits, given=held
            )
            (found,) = look_up_recorded(session, base, choice, output, store, progress)
        if store is not None:
            require_tracked([found.folder])
        return Lookup(found, temporary)


def _require_one_rank() -> None:
    if n_ranks() > 1:
        raise UsageError("From Python a run is work for one process: take the command for torchrun")


def _kind(method: str | Settings) -> type[Method]:
    if isinstance(method, METHODS):
        return type(method)
    if method not in COMMANDS:
        said = "semseg_cli.lookup makes lookups; " if method == "lookup" else ""
        raise UsageError(f"There is no method {method!r}: {said}choose among {', '.join(COMMANDS)}")
    return COMMANDS[str(method)]


def _check_name(values: Mapping[str, Any], methods: Sequence[Method]) -> None:
    if values.get("run_name") is not None and len(methods) > 1:
        raise UsageError("run_name names the runs of one method: leave it out for several")


def _check_examples(values: Mapping[str, Any], temporary: OwnFolder | None) -> None:
    if values.get("examples") and temporary is not None:
        raise UsageError("examples are pictures in the run's folder: give dump_to=")


@contextmanager
def _places(
    dump_to: str | Path | None, track: bool
) -> Iterator[tuple[dict[str, Any], OwnFolder | None]]:
    """Where runs are written, as settings; a folder of our own, which goes with the result, where
    nothing is to be left."""
    if dump_to is not None or track:
        folder = {} if dump_to is None else {"dump_to": expanded(dump_to)}
        yield {**folder, "no_track": not track}, None
        return
    temporary = OwnFolder()
    try:
        yield {"dump_to": temporary.path, "no_track": True, "no_plots": True}, temporary
    except BaseException:
        temporary.remove()
        raise


def _result(runs: Sequence[Finished], temporary: OwnFolder | None) -> Result:
    paths = [one.folder.path for one in runs]
    made_runs = [
        Run(
            name=name,
            method=one.method.command,
            report=one.outcome.report,
            rows=rows_of(one),
            folder=None if temporary else one.folder.path,
        )
        for name, one in zip(names_of(runs), runs, strict=True)
    ]
    return Result(made_runs, [summary_of(runs), extremes_of(runs)], paths, temporary)

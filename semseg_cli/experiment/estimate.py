"""What a command would do: its size, and a time estimated from one real batch."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semseg_cli.data.dataset import Dataset, even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.first_order import N_IMAGES as GRADIENT_IMAGES
from semseg_cli.engine.other_images import Asked, may_sample, n_sampled
from semseg_cli.engine.peers import predicted_patches
from semseg_cli.experiment.session import Session
from semseg_cli.models.cache_room import Keeping
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.ranks.group import n_ranks
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import Method

SAMPLE_IMAGES = 8


@dataclass(frozen=True)
class Plan:
    """Numbers of images that go through the ViT up to the layer, through the SAE's encoder, and
    through the rest of the ViT.

    `kept` says which residuals are newly kept on disk, or why none are; `is_sampled` that classes
    are run on a sample of the images without them, whose number is a guess from a few images;
    `may_lack` that classes may turn out to have no latent, and are not run then.
    """

    n_images: int
    n_lookup_images: int
    n_classes: int
    n_prefixes: int
    n_encoded: int
    n_tails: int
    seconds: float
    kept: str
    is_sampled: bool = False
    may_lack: bool = False

    @property
    def tails(self) -> str:
        """The number of passes after the layer, and how sure it is."""
        return tails_of([self])

    def lines(self) -> list[str]:
        """The plan in words."""
        passes = f"passes up to the layer: {self.n_prefixes}; passes after it: {self.tails}"
        return [
            f"images to evaluate: {self.n_images}; to choose latents on: {self.n_lookup_images}",
            f"classes: {self.n_classes}",
            f"{passes}; images to encode: {self.n_encoded}",
            f"residuals to keep on disk: {self.kept}",
            estimated(self.seconds),
        ]


def tails_of(plans: Sequence[Plan]) -> str:
    """The number of passes after the layer in all, and how sure it is."""
    is_about = any(plan.is_sampled for plan in plans)
    how = "about " if is_about else "at most " if any(plan.may_lack for plan in plans) else ""
    return f"{how}{sum(plan.n_tails for plan in plans)}"


def estimated(seconds: float) -> str:
    """A time in words, for the name of a device to be filled in."""
    minutes = seconds / 60
    took = f"{minutes:.1f} minutes" if minutes >= 2 else f"{seconds:.0f} s"
    return (
        f"estimated time: {took} on {{device}} (from {SAMPLE_IMAGES} images or fewer), without "
        "start and pictures"
    )


@dataclass(frozen=True)
class Seconds:
    """For one image: loading and the ViT up to the layer, encoding, the rest of the ViT."""

    prefix: float
    encoding: float
    tail: float


def make_plan(session: Session, methods: Sequence[Method | Choose], n_more_tails: int = 0) -> Plan:
    """The size and estimated time of running these methods in one pass, and at most so many more
    edits."""
    evaluates = [m for m in methods if not isinstance(m, Choose)]
    dataset = session.dataset if evaluates else session.lookup_dataset
    n_classes = len(session.classes_of(dataset))
    looks_up = [m for m in methods if m.looks_up]
    causal = [m for m in looks_up if m.tries_edits]
    makes_stats = session.is_missing_stats and any(m.needs_statistics for m in methods)
    n_more = sum(m.n_more_passes for m in evaluates)
    n_ranked = sum(m.select == "cause" for m in looks_up)
    n_passes = len(looks_up) + makes_stats + n_more + len(causal) + n_ranked
    n_lookup = len(session.lookup_dataset) if n_passes else 0
    n_images = len(session.dataset) if evaluates else 0
    by_class = [m for m in evaluates if not m.is_shared and session.setup.protocol == "class"]
    asked = session.setup.n_other_images
    is_sampled = bool(by_class) and may_sample(n_images, asked)
    n_run = _run_per_class(session, n_classes, asked) if is_sampled else n_images
    n_tails = sum(
        (n_classes * n_run if m in by_class else n_images) * len(m.scale) * m.n_draws
        for m in evaluates
    )
    n_tails += (1 + is_sampled) * n_images + n_more_tails  # clean predictions
    n_tails += sum(_tried(method, n_classes, n_lookup) for method in causal)
    counts_firing = makes_stats and not {"sparsity", "top_values"} <= session.given_stats.keys()
    n_null = sum(m.has_other_latents for m in evaluates)  # their firing is counted
    n_encoded = (len(looks_up) + n_ranked + counts_firing + n_null) * n_lookup
    used = [(session.lookup_dataset, n_passes)] if n_lookup else []
    used += [(session.dataset, 1 + is_sampled)] if evaluates else []
    used += [(session.clean_dataset, 1)] if evaluates and session.clean_dataset else []
    n_prefixes, kept = _prefixes(session.pipeline, used)
    may_lack = bool(causal) or any(m.needs_latents or m.needs_differences for m in by_class)
    may_lack |= n_more_tails > 0
    one = _measure(session, dataset)
    seconds = n_prefixes * one.prefix + n_encoded * one.encoding + n_tails * one.tail
    seconds /= n_ranks()
    return Plan(
        n_images, n_lookup, n_classes, n_prefixes, n_encoded, n_tails, seconds, kept, is_sampled,
        may_lack,
    )  # fmt: skip


def seconds_for_stats(session: Session) -> float:
    """How long it takes at most to compute statistics and to try reconstructions with them."""
    pipeline, dataset = session.pipeline, session.lookup_dataset
    n, has_head = len(dataset), pipeline.head is not None
    n_prefixes, _ = _prefixes(pipeline, [(dataset, session.is_missing_stats + 2)])
    one = _measure(session, dataset, has_tail=has_head)
    n_encoded = (session.is_missing_stats + 2) * n  # decoding takes as long
    n_tails = 3 * n * has_head  # clean, with the autoencoder's reconstruction and with PCA's
    return (n_prefixes * one.prefix + n_encoded * one.encoding + n_tails * one.tail) / n_ranks()


def _run_per_class(session: Session, n_classes: int, asked: Asked) -> int:
    """How many images a class is run on, were all classes in as many as a few images show."""
    dataset = session.dataset
    few = dataset.subset(even_subset(len(dataset), SAMPLE_IMAGES))
    loader = Loader(few, session.setup.batch_size)
    n_own_bc = predicted_patches(session.pipeline, loader, len(dataset.class_names))
    ids = torch.tensor(session.classes_of(dataset))
    n_with = round(float((n_own_bc[:, ids - 1] > 0).double().mean()) * len(dataset))
    return n_with + n_sampled(n_with, len(dataset) - n_with, asked)


def _tried(method: Method | Choose, n_classes: int, n_lookup: int) -> int:
    """Passes through the rest of the ViT by which a causal rule chooses, forward and back."""
    per_row = min(2 * method.select_images, n_lookup)
    n_rows = min(method.n_candidates, method.top_k_group + 2)  # the worse half runs on few images
    n_tails = per_row * n_rows * n_classes * len(method.scale) + n_lookup
    n_gradients = min(GRADIENT_IMAGES, n_lookup) * n_classes
    return n_tails + (3 * n_gradients if method.select == "cause" else 0)


def _prefixes(pipeline: Pipeline, used: Sequence[tuple[Dataset, int]]) -> tuple[int, str]:
    """Passes up to the layer over these datasets, so many times each, and what is kept of them."""
    if pipeline.cache is None:
        return sum(len(dataset) * n_times for dataset, n_times in used), "none"
    datasets = [dataset for dataset, _ in used]
    keepings = pipeline.cache.foresee(pipeline.vit, pipeline.layer, datasets, pipeline.site)
    n_times: Counter[str] = Counter()
    for dataset, n in used:
        n_times[dataset.digest] += n
    n_prefixes = sum(
        keeping.n_missing * (n_times[digest] if keeping.refused else 1)
        for digest, keeping in keepings.items()
    )
    return n_prefixes, _in_words(keepings.values())


def _in_words(keepings: Collection[Keeping]) -> str:
    """How much is kept, and why some is not."""
    if not any(keeping.n_missing for keeping in keepings):
        return "all are there already"
    added = [keeping.n_bytes for keeping in keepings if not keeping.refused]
    reasons = "; ".join(keeping.refused for keeping in keepings if keeping.refused)
    said = f"{sum(added) / 2**30:.2f} GiB" if added else "none"
    return f"{said} ({reasons})" if reasons else said


def _measure(session: Session, dataset: Dataset, *, has_tail: bool = True) -> Seconds:
    """Each from the same few images of the dataset."""
    pipeline, n_images = session.pipeline, min(SAMPLE_IMAGES, len(dataset))

    def load() -> None:
        for position in range(n_images):
            _ = dataset[position]

    images = next(iter(Loader(dataset, n_images))).images_bchw
    tokens = pipeline.residual(images)
    prefix = fastest(load) + fastest(lambda: pipeline.residual(images))
    encoding = fastest(lambda: _encode(pipeline, tokens))
    tail = fastest(lambda: pipeline.features(tokens)) if has_tail else 0.0
    return Seconds(prefix / n_images, encoding / n_images, tail / n_images)


@torch.inference_mode()
def _encode(pipeline: Pipeline, tokens_bnd: Tensor) -> None:
    sae = pipeline.sae
    for part_nd in pipeline.patches(tokens_bnd).flatten(0, 1).split(sae.chunk_rows):
        sae.encode(sae.scale(part_nd))


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the faster of two runs: the first one also warms up."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # launching is not running
        taken.append(time.perf_counter() - start)
    return min(taken)

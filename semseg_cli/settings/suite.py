"""The suite: which methods it runs, and which nulls a claim has to stand above."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from semseg_cli.settings.base import Settings, narrow, option
from semseg_cli.settings.controls import NextBest, OtherClass, Push, RandFeat, RandVec
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.intervening import COMMON_LENGTH, Control, LengthMatch
from semseg_cli.settings.latent_choice import MOST_LATENTS, Choose, LatentChoice, Scaled
from semseg_cli.settings.methods import (
    BELOW_ZERO,
    Ablate,
    AutoFeat,
    HeadDirection,
    Insert,
    MeanDiff,
    Method,
)

S = TypeVar("S", bound=Setup)
QUICK_IMAGES = 100
FEW_PEERS, FEW_MATCHED = 199, 159  # of --quick
MAX_GROUP = 8
NULL_SAES: tuple[Control, ...] = ("pca", "random", "shuffled")


@dataclass(frozen=True, kw_only=True)
class Nulls:
    """How many nulls each class stands among, and on how many images (None: all)."""

    peers: int
    peer_images: int | None = None
    matched: int
    matched_images: int


@dataclass(frozen=True, kw_only=True)
class NullChoice(Settings):
    """The nulls of a suite; what is not given depends on how thorough it is."""

    panel: ClassVar[str] = "Nulls"

    quick: bool = option(
        False, f"A first look: {QUICK_IMAGES} images, and so few nulls that no class is claimed "
        "unless several are.",
    )  # fmt: skip
    full: bool = option(False, "Everything on all images; nulls on 32 images per class.")
    peers: int | None = option(
        None, "Random live latents, each set by the same rule, one edit for all classes; else "
        f"{FEW_PEERS}, or (without --quick) as many as let one class be claimed alone: 20 per "
        "class.", ge=1, le=100_000,
    )  # fmt: skip
    peer_images: int | None = option(
        None, "Evaluated images that peers are tried on, those that show most classes first; else "
        "200 (--quick 20, --full all).", ge=1,
    )  # fmt: skip
    matched_peers: int | None = option(
        None, "Random live latents per class, each edit as long as the class's own, patch by "
        f"patch; else 20 per class (--quick {FEW_MATCHED}).", ge=1, le=100_000,
    )  # fmt: skip
    matched_images: int | None = option(
        None, "Images per class, with patches of it, that they are tried on; else 8 (--quick 5, "
        "--full 32).", ge=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quick and self.full:
            raise ValueError("quick is given with --full: choose one of them")

    def nulls(self, n_alone: int) -> Nulls:
        """What is run; `n_alone` nulls let one class be claimed alone."""
        peers = FEW_PEERS if self.quick else max(FEW_PEERS, n_alone)
        matched = FEW_MATCHED if self.quick else n_alone
        peer_images = 20 if self.quick else None if self.full else 200
        matched_images = 5 if self.quick else 32 if self.full else 8
        return Nulls(
            peers=self.peers or peers,
            peer_images=self.peer_images or peer_images,
            matched=self.matched_peers or matched,
            matched_images=self.matched_images or matched_images,
        )


@dataclass(frozen=True, kw_only=True)
class Suite(NullChoice, LatentChoice, Scaled):
    """The whole argument: the latents, their controls, their nulls and the baselines."""

    panel: ClassVar[str] = "Suite"
    command: ClassVar[str] = "suite"

    scale: tuple[float, ...] = option(
        (-2.0, -1.0, -4.0), "Set the latent to this many times its maximum (repeatable). The "
        "first is what controls are matched to and claims are made at, the others make the curve.",
        ge=-10.0, le=10.0,
    )  # fmt: skip
    draws: int | None = option(
        None, "Draws of rand-feat and rand-vec; else as many as an interval needs (--full 6).",
        ge=1, le=10_000,
    )  # fmt: skip

    match: LengthMatch | None = option(
        None, "Of several SAEs. norm (the default for a --scale below 0): judged at edits that are "
        "--length long. none: at --scale times each latent's own maximum.",
    )  # fmt: skip
    length: float = option(
        COMMON_LENGTH, "Of several SAEs: length of each class's edit, on average over the patches "
        "of the lookup split, by that of the residuals there.", gt=0.0, le=100.0,
    )  # fmt: skip
    max_group: int | None = option(
        None, "Find each class's smallest group of at most this many latents that does what its "
        "best one does (groups.csv); 0: none. Else 8 with a causal rule, which it takes.", ge=0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match == "norm" and self.at >= 0.0:
            raise ValueError(f"scale is {self.at:g}: {BELOW_ZERO}")

    @property
    def most_grouped(self) -> int | None:
        """Latents of a group, at most; None where none are looked for."""
        is_open = self.max_group is None and self.tries_edits and self.lookup is None
        return MAX_GROUP if is_open else self.max_group or None

    @property
    def at(self) -> float:
        """The scale that claims are made at."""
        return self.scale[0]

    def choose(self) -> Choose:
        """The choice of latents, once for all methods."""
        both = min(2 * self.top_k_group, MOST_LATENTS)  # next-best needs as many again
        top_k = max(self.top_k, both)
        return narrow(self, Choose, scale=(self.at,), top_k=top_k, max_group=self.most_grouped)

    def on(self, setup: S) -> S:
        """The setup of the suite: fewer images where it is quick."""
        return replace(setup, images=setup.images or (QUICK_IMAGES if self.quick else None))

    @property
    def is_matched(self) -> bool:
        """Whether several autoencoders are judged at edits of one length: by default where latents
        are suppressed."""
        return self.match == "norm" or (self.match is None and self.at < 0.0)

    def claims(self, lookup: str) -> Method:
        """The claims of the latents in `lookup`, of one autoencoder among several."""
        return AutoFeat(lookup=lookup, scale=(self.at,), **self._matched)

    def null_claims(self, control: Control) -> Method:
        """The claims of a null SAE among several, whose latents are chosen in the same way."""
        method = self.null_sae(control)
        return replace(method, **self._matched)

    @property
    def _matched(self) -> dict[str, Any]:
        return {"match": "norm", "length": self.length} if self.is_matched else {}

    def null_sae(self, control: Control) -> AutoFeat:
        """A null SAE at the scale of claims, its latents chosen as those of the given one."""
        own = {"match": "none", "length": COMMON_LENGTH}
        return narrow(self, AutoFeat, scale=(self.at,), lookup=None, control=control, **own)

    def groups(self, lookup: str) -> dict[str, tuple[Method, ...]]:
        """The methods in the order in which they run, those of a group in one pass over the
        images; `lookup` has the latents."""
        own: dict[str, Any] = {"lookup": lookup, "scale": (self.at,)}
        drawn = {**own, "draws": self.draws or (6 if self.full else None)}
        return {
            "latents": (
                Ablate(lookup=lookup),
                AutoFeat(lookup=lookup, scale=self.scale),
                Insert(lookup=lookup),
                Push(**own),
            ),
            "controls": (
                RandFeat(**drawn),
                RandVec(**drawn, match="norm"),
                OtherClass(**own),
                NextBest(**own),
            ),
            **{f"null SAE {control}": (self.null_sae(control),) for control in NULL_SAES},
            "directions": (
                MeanDiff(**own),
                MeanDiff(match="project"),
                MeanDiff(**own, direction="lda"),
                HeadDirection(**own),
            ),
        }


@dataclass(frozen=True, kw_only=True)
class SuiteSetup(Setup):
    """Everything a suite needs, of one autoencoder or of several side by side."""

    panel: ClassVar[str] = "Model"

    vit_layer: tuple[int, ...] = option(  # type: ignore[assignment]
        (), "Block of the SAE, counted from 1 (repeatable). An SAE whose file says its block is "
        "used there alone, others at each; else 11.", ge=1,
    )  # fmt: skip
    sae_ckpt: tuple[str, ...] = option(  # type: ignore[assignment]
        (), "Sparse autoencoder: file, folder, hf:// path, or 'FOLDER/*' (repeatable). Several "
        "are put side by side.", path=True,
    )  # fmt: skip
    act_mean: tuple[float | str, ...] = option(  # type: ignore[assignment]
        (), "SAE input mean (file, 0 for none, or measured; one per block that files are of); else "
        "computed where the SAE's format leaves it open.",
        path=True,
    )  # fmt: skip
    act_norm: tuple[float | str, ...] = option(  # type: ignore[assignment]
        (), "SAE input norm (number, file or measured); else likewise.", path=True
    )

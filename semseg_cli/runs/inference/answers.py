"""What inference answers: an interval, a p value, or the sentence that says why there is none."""

import math
from dataclasses import dataclass, replace

MIN_IMAGES = 5
FEW_IMAGES = 10  # below, an interval is printed, and the reader is told
MIN_KISH = 2.5  # the images, discounted for unequal numbers of patches
ALPHA = 0.05
LEAST_WIDTH = 1e-6  # of an interval: less is rounding (of a square, under a root)


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval. `lo` and `hi` are None where it is too thin for one.

    `n_eff` of one rate is Wilson's size: as many independent patches would say as much. Of all
    other numbers it is the images, discounted for unequal shares (Kish).
    """

    value: float | None  # None over nothing
    lo: float | None
    hi: float | None
    n_eff: float | None
    n_images: int
    method: str
    reason: str = ""  # why there is no interval

    @property
    def is_printed(self) -> bool:
        """Whether there is an interval."""
        return self.lo is not None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and zero outside it."""
        return self.lo is not None and self.hi is not None and (self.lo > 0 or self.hi < 0)


@dataclass(frozen=True)
class Test:
    """A p value, or None and the reason."""

    __test__ = False  # pytest would collect it

    p: float | None
    method: str
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """One minus another, with its interval and test."""

    interval: Interval
    test: Test

    @property
    def mark(self) -> str:
        """The mark of its own p value, uncorrected."""
        return mark(self.test.p, self.interval)


def tested(interval: Interval, test: Test) -> Difference:
    """Both, or neither: no p value of a difference that is too thin for an interval, and no
    interval where too few images differ for a p value: they do not show how far others would."""
    if interval.is_printed and test.p is None:
        return Difference(replace(interval, lo=None, hi=None, n_eff=None, reason=test.reason), test)
    if interval.is_printed or test.p is None:
        return Difference(interval, test)
    return Difference(interval, Test(None, test.method, interval.reason))


def mark(p: float | None, interval: Interval) -> str:
    """`*` where a p value is at most .05 and the interval excludes zero, `(*)` for p alone.

    Both, for a test can reject equal means where one run's images are more alike than the other's.
    Take the p value that is shown: corrected where several are.
    """
    if p is None or p > ALPHA:
        return ""
    return "*" if interval.excludes_zero else "(*)"


def bounds_text(interval: Interval, digits: int = 2) -> str:
    """The interval of a share as shown: `[.74,.98]`, `>=.83` at 1, `<=.17` at 0, `-` where none is.

    Rounded outward, so that what is shown covers as often and never has width zero.
    """
    if interval.value is None or interval.lo is None or interval.hi is None:
        return "-"
    unit = 10**digits
    lo = math.floor(interval.lo * unit + 1e-9) / unit
    hi = math.ceil(interval.hi * unit - 1e-9) / unit
    if 1 <= interval.value >= interval.hi:  # no boundary of a difference, which may be more than 1
        return f">={_short(lo, digits)}"
    if interval.value <= 0 == interval.lo:
        return f"<={_short(hi, digits)}"
    return f"[{_short(lo, digits)},{_short(hi, digits)}]"


def _short(share: float, digits: int) -> str:
    text = f"{share:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(share) < 1 else text


def too_few(n_images: int, kish: float) -> str:
    """Why so many images (`kish`: discounted for unequal shares) give no interval; else ''.

    The rule comes first, after a colon by how much it is missed, as in all reasons.
    """
    if n_images == 0:
        return "0 of 0 patches"
    if n_images < MIN_IMAGES:
        return f"an interval needs {MIN_IMAGES} images: {n_images}"
    if kish < MIN_KISH:
        return f"few images hold nearly all patches: as good as {kish:.1f} equal ones"
    return ""

"""What stands for objects that a file names and that are never made."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

MOST_MODULES = 10_000
MOST_PARTS = 10_000  # of a value that may be printed
LONGEST = 10_000


class BadPickle(ValueError):
    """A pickle that cannot be read; the text says why."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is never imported."""

    text: str


@dataclass(eq=False)
class Record:
    """An object that is never made: its class or function, its arguments and its state."""

    kind: str
    args: tuple[Any, ...] = ()
    entries: list[Any] = field(default_factory=list)
    """What is appended to it; pairs where it is a mapping."""
    parts: tuple[dict[Any, Any], ...] = ()
    """Its state: what would be in its `__dict__`, then in its `__slots__`."""

    def state(self) -> dict[str, Any]:
        """Names and values of its attributes."""
        return {name: value for part in self.parts for name, value in part.items()}

    def build(self, state: Any) -> None:
        """Takes its state, by reference: a file may give one large state to many objects."""
        if self.parts:
            raise BadPickle("its pickle gives an object its state twice")
        found = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        self.parts = tuple(part for part in found if isinstance(part, dict))


def module_tensors(module: Record) -> dict[str, Tensor]:
    """The state dict of a pickled `torch.nn.Module`, with the names that PyTorch gives them."""
    found: dict[str, Tensor] = {}
    waiting = [("", module)]
    for n_seen, (prefix, one) in enumerate(waiting):
        if n_seen > MOST_MODULES:
            raise BadPickle(f"it holds more than {MOST_MODULES} modules, or modules in a ring")
        state = one.state()
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(state.get(kind)):
                if isinstance(value, Tensor):
                    found[f"{prefix}{name}"] = value
        for name, child in _items(state.get("_modules")):
            if isinstance(child, Record):
                waiting.append((f"{prefix}{name}.", child))
    return found


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else ()


def is_module(value: Any) -> bool:
    """Whether a value is the record of a `torch.nn.Module`."""
    return isinstance(value, Record) and any("_modules" in part for part in value.parts)


def is_small(value: Any) -> bool:
    """Whether a value is made of few plain parts: numbers, strings, None, lists, tuples and dicts.

    Parts are counted as often as they are referred to.

    What is not may take for ever to print: a list of twice a list of twice a list, and so on.
    """
    waiting, n_seen = [value], 0
    while waiting:
        one, n_seen = waiting.pop(), n_seen + 1
        if n_seen > MOST_PARTS or (isinstance(one, str | bytes) and len(one) > LONGEST):
            return False
        if isinstance(one, dict):
            waiting.extend([*one.keys(), *one.values()][: MOST_PARTS + 1])
        elif isinstance(one, list | tuple):
            waiting.extend(one[: MOST_PARTS + 1])
        elif not isinstance(one, str | bytes | int | float | None):
            return False
    return True

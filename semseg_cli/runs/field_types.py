"""Whether values hold what they say: results are kept, so wrong ones are refused."""

from dataclasses import fields
from functools import lru_cache
from types import UnionType
from typing import Any, get_args, get_origin


def check_types(instance: Any) -> None:
    """Raises TypeError if a field of a results dataclass holds another type than annotated.

    A whole number for a float becomes one.
    """
    for f in fields(instance):
        value = getattr(instance, f.name)
        if f.type is float and type(value) is int:
            object.__setattr__(instance, f.name, float(value))
        elif not holds(value, f.type):
            name = f"{f.name} of {type(instance).__name__}"
            raise TypeError(f"{name} is {shortened(value)}, expected {f.type}")


def holds(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, exactly: no truth value is a number."""
    if type(value) is kind or kind is Any:
        return True
    origin, parts = _taken_apart(kind)
    if origin is UnionType:
        return any(holds(value, part) for part in parts)
    if origin is dict:
        return type(value) is dict and all(
            holds(key, parts[0]) and holds(item, parts[1]) for key, item in value.items()
        )
    if origin is list:
        return type(value) is list and all(holds(item, parts[0]) for item in value)
    return False


@lru_cache
def _taken_apart(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def shortened(value: Any) -> str:
    """A value for a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."

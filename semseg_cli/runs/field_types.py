"""Whether the fields of results hold what they say: results are kept, so wrong ones are refused."""

from dataclasses import fields
from typing import Any, get_args, get_origin


def check_types(instance: Any) -> None:
    """Raises TypeError if a field of a results dataclass holds another type than annotated.

    A whole number for a float becomes one.
    """
    for f in fields(instance):
        value = getattr(instance, f.name)
        if f.type is float and type(value) is int:
            object.__setattr__(instance, f.name, float(value))
        elif not _holds(value, f.type):
            raise TypeError(
                f"{f.name} of {type(instance).__name__} is {value!r}, expected {f.type}"
            )


def _holds(value: Any, kind: Any) -> bool:
    if kind in (int, float, str, bool):
        return type(value) is kind
    origin, parts = get_origin(kind), get_args(kind)
    if origin is dict:
        pairs = value.items() if type(value) is dict else [(None, None)]
        return all((type(key), type(item)) == parts for key, item in pairs)
    if origin is list:
        return type(value) is list and all(type(item) is parts[0] for item in value)
    return value is None or type(value) is float  # float | None

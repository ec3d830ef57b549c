"""The one decorator that checks tensor shapes and types at run time."""

from beartype import beartype
from jaxtyping import jaxtyped

typed = jaxtyped(typechecker=beartype)

"""What the names in a PyTorch file stand for: dtypes, storages, and what rebuilds tensors."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from semseg_cli.models.torch_files.records import BadPickle, Record

MOST_AXES = 16
DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}
STORAGES: dict[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.storage.UntypedStorage": torch.uint8,
}


def are_counts(values: Iterable[Any]) -> bool:
    """Whether all values are whole numbers that a size can be."""
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """`_rebuild_tensor`, `_v2`: a view of a storage, which may not be larger than it."""
    if not isinstance(storage, Tensor) or not isinstance(size, tuple | list):
        raise BadPickle("its pickle makes a tensor of something other than a storage")
    if not isinstance(stride, tuple | list) or not are_counts([offset, *size, *stride]):
        raise BadPickle("its pickle makes a tensor of an unreadable shape")
    if len(size) != len(stride) or len(size) > MOST_AXES:
        raise BadPickle("its pickle makes a tensor of an unreadable shape")
    if 0 in size:
        return torch.as_strided(storage[:0], tuple(size), (1,) * len(size))
    n_numbers, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        n_numbers, last = n_numbers * length, last + (length - 1) * step
    if last >= len(storage) or n_numbers > len(storage):
        raise BadPickle(f"a tensor of {n_numbers} numbers lies in a storage of {len(storage)}")
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    """`_rebuild_tensor_v3`: of a storage of bytes."""
    if not isinstance(dtype, torch.dtype) or not isinstance(storage, Tensor):
        raise BadPickle("its pickle makes a tensor of something other than a storage")
    if storage.nbytes % dtype.itemsize:
        raise BadPickle("its tensors are cut")
    return _tensor(storage.view(torch.uint8).view(dtype), offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    """`_rebuild_parameter`, with or without a state: its tensor."""
    return data


def _subclass(function: Any, _kind: Any, args: Any, *_: Any) -> Any:
    """`_rebuild_from_type_v2`, of tensors with attributes: the plain tensor."""
    name = getattr(function, "text", None)
    if name not in TENSORS or not isinstance(args, tuple):
        return Record(str(name), args if isinstance(args, tuple) else ())
    return TENSORS[name](*args)


def _ordered_dict(*args: Any) -> dict[Any, Any]:
    if args:
        raise BadPickle("its pickle makes an OrderedDict of unknown arguments")
    return {}


def _device(*args: Any) -> str:
    return ":".join(str(part) for part in args if type(part) in (str, int))


def _size(*args: Any) -> tuple[Any, ...]:
    return tuple(args[0]) if args and isinstance(args[0], tuple | list) else ()


VALUES: dict[str, Any] = {**DTYPES, **STORAGES}
TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **TENSORS,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "collections.OrderedDict": _ordered_dict,
    "torch.device": _device,
    "torch.Size": _size,
}

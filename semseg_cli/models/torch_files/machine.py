"""What a pickle says, without running it: plain values, and records in place of objects.

A pickle is a program for a small stack machine, and three of its instructions import and call what
the file names. This machine does neither: a name stays a name, and calling one makes a record of
its arguments. What a caller's own tables of names give instead is all that the file can reach.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from semseg_cli.models.torch_files.records import BadPickle, Name, Record

MOST_INSTRUCTIONS = 5_000_000  # some seconds
LARGEST = 2**1024  # of a whole number; PyTorch writes none beyond 2**80
NAME = re.compile(r"[\w.<>]{1,300}")  # `<locals>` is one; what else is printed may be anything
KEYS = (str, bytes, int, float, bool, type(None))  # hashing nested tuples can take for ever


def read_pickle(
    file: BinaryIO,
    values: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any],
) -> Any:
    """What one pickle holds; the file is left behind its end.

    Args:
        file: at the first byte of the pickle.
        values: what stands for the names of a module's values.
        functions: what is called for the names of functions and classes.
        persistent: what stands for an object that is stored outside of the pickle, by its id.

    Raises:
        BadPickle: it is cut, damaged, or longer than can be read.
    """
    machine, last = _Machine(values, functions, persistent), "none"
    try:
        for n_done, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            last = opcode.name
            if n_done == MOST_INSTRUCTIONS:
                raise BadPickle(f"its pickle has more than {MOST_INSTRUCTIONS} instructions")
            machine.do(last, argument)
        return machine.stack.pop()
    except BadPickle:
        raise
    except Exception as error:  # whatever bytes do to a parser and a stack
        raise BadPickle(f"its pickle is damaged (last instruction: {last})") from error


class _Machine:
    """A stack, what lies below each mark, and the memo."""

    def __init__(
        self,
        values: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.values, self.functions, self.persistent = values, functions, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in PLAIN:
            if isinstance(argument, int) and abs(argument) > LARGEST:
                raise BadPickle("its pickle has a number of more than 300 digits")
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in ACTIONS:
            ACTIONS[name](self, argument)
        elif name not in IGNORED:
            raise BadPickle(f"its pickle uses the instruction {name}, which PyTorch never writes")

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark, which is taken away."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def named(self, module: Any, name: Any) -> None:
        """Pushes what stands for a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadPickle("its pickle names something by other than two strings")
        text = f"{module}.{name}"
        if not NAME.fullmatch(text):
            raise BadPickle("its pickle names something by what is no name")
        self.stack.append(self.values.get(text, Name(text)))

    def call(self, function: Any, args: Any, keywords: Any = None) -> None:
        """Pushes what a call stands for."""
        if not isinstance(args, tuple) or not isinstance(keywords or {}, dict):
            raise BadPickle("its pickle calls something with other than a tuple")
        if isinstance(function, Name) and function.text in self.functions and not keywords:
            self.stack.append(self.functions[function.text](*args))
        elif isinstance(function, Name | Record):
            text = function.text if isinstance(function, Name) else f"{function.kind}(...)"
            self.stack.append(Record(text, args))
            self.stack[-1].build(keywords)
        else:
            raise BadPickle(f"its pickle calls a value of type {type(function).__name__}")

    def build(self, _: Any) -> None:
        """Gives the top its state; what is no record (a tensor, a dict) keeps none."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].build(state)

    def add(self, items: list[Any]) -> None:
        """Appends to the list or record on top."""
        top = self.stack[-1]
        if not isinstance(top, list | Record):
            raise BadPickle(f"its pickle appends to a value of type {type(top).__name__}")
        (top if isinstance(top, list) else top.entries).extend(items)

    def set(self, items: list[Any]) -> None:
        """Sets keys, of the dict or record on top, to values."""
        pairs = list(zip(items[::2], items[1::2], strict=True))
        top = self.stack[-1]
        if isinstance(top, Record):
            top.entries.extend(pairs)
        elif isinstance(top, dict):
            top.update((_key(key), value) for key, value in pairs)
        else:
            raise BadPickle(f"its pickle sets keys of a value of type {type(top).__name__}")

    def instance(self, argument: str) -> None:
        """INST: a class by name, with what is above the mark."""
        items = self.since_mark()
        self.named(*argument.split(" ", 1))
        self.call(self.stack.pop(), tuple(items))

    def object(self, _: Any) -> None:
        """OBJ: a class and its arguments above the mark."""
        function, *items = self.since_mark()
        self.call(function, tuple(items))

    def pop(self, n: int) -> list[Any]:
        """The n topmost values, the lowest first."""
        if len(self.stack) < n:
            raise BadPickle("its pickle takes more from its stack than is there")
        taken = self.stack[-n:]
        del self.stack[-n:]
        return taken

    def mark(self, _: Any) -> None:
        """Begins a new stack above this one."""
        self.below.append(self.stack)
        self.stack = []

    def put(self, key: int | None) -> None:
        """Keeps the top in the memo, by a key or as the next."""
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def get(self, key: int) -> None:
        """Pushes a value that was kept."""
        if key not in self.memo:
            raise BadPickle(f"its pickle refers to a value {key} that it has not made")
        self.stack.append(self.memo[key])

    def drop(self, _: Any) -> None:
        """POP: a value, or a mark that nothing is above."""
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.below.pop()


def _key(key: Any) -> Any:
    if not isinstance(key, KEYS):
        raise BadPickle(f"its pickle has a key of type {type(key).__name__}")
    return key


def _pushed(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Record("builtins.set"),
}
PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
IGNORED = {"PROTO", "FRAME", "STOP"}
ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": lambda m, _: m.since_mark().clear(),
    "DUP": lambda m, _: _pushed(m, m.stack[-1]),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda m, _: m.put(None),
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE1": lambda m, _: _pushed(m, tuple(m.pop(1))),
    "TUPLE2": lambda m, _: _pushed(m, tuple(m.pop(2))),
    "TUPLE3": lambda m, _: _pushed(m, tuple(m.pop(3))),
    "TUPLE": lambda m, _: _pushed_since_mark(m, tuple),
    "LIST": lambda m, _: _pushed_since_mark(m, list),
    "FROZENSET": lambda m, _: _pushed_since_mark(m, _frozenset),
    "DICT": lambda m, _: _dict(m),
    "APPEND": lambda m, _: m.add(m.pop(1)),
    "APPENDS": lambda m, _: m.add(m.since_mark()),
    "ADDITEMS": lambda m, _: m.add(m.since_mark()),
    "SETITEM": lambda m, _: m.set(m.pop(2)),
    "SETITEMS": lambda m, _: m.set(m.since_mark()),
    "GLOBAL": lambda m, text: m.named(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.named(*m.pop(2)),
    "REDUCE": lambda m, _: m.call(*m.pop(2)),
    "NEWOBJ": lambda m, _: m.call(*m.pop(2)),
    "NEWOBJ_EX": lambda m, _: m.call(*m.pop(3)),
    "INST": _Machine.instance,
    "OBJ": _Machine.object,
    "BUILD": _Machine.build,
    "PERSID": lambda m, text: _pushed(m, m.persistent(text)),
    "BINPERSID": lambda m, _: _pushed(m, m.persistent(m.stack.pop())),
}


def _pushed_since_mark(machine: _Machine, make: Callable[[list[Any]], Any]) -> None:
    items = machine.since_mark()  # first, since it changes the stack
    machine.stack.append(make(items))


def _frozenset(items: list[Any]) -> Record:
    return Record("builtins.frozenset", entries=items)


def _dict(machine: _Machine) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    machine.set(items)

"""Pickled arrays and tensors, read without running anything that the file asks for.

A pickle is a program for a small stack machine: its opcodes push values, build containers, and *call* functions by
name, ``os.system`` if it pleases. Here the machine is our own. A name is only a pair of texts, and a call looks the
pair up in a table of functions that make arrays; any other name ends the reading. A small file cannot fill the memory:
texts and bytes are cut out of it, arrays and tensors are views of those bytes, and what calls copy is counted.

References
----------
``pickletools`` in the standard library describes the opcodes; PEP 307, PEP 3154 and PEP 574 the protocols. How NumPy
and PyTorch take their objects apart was read off the pickles they write.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Sequence
from typing import IO, Any

from ...errors import WeightFileError
from .pickled import Array, DType, Name, Storage, finished


class Refused(WeightFileError):
    """A pickle asks for something that is neither an array nor a container."""


#: what a damaged or a malicious pickle can make the machine stumble over
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError, EOFError)

#: opcodes that push their argument as it is
VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
MARK = object()


def load(
    stream: IO[bytes],
    functions: dict[Name, Callable[..., Any]],
    *,
    passive: frozenset[Name] = frozenset(),
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Run one pickle.

    Parameters
    ----------
    stream : file
        Whose ``read(n)`` returns at most what there is: an ``io.BytesIO`` or an ``mmap``. (A file sets n bytes aside
        first.) Its position afterwards is behind the pickle.
    functions : dict
        What may be called, by the name the pickle calls it.
    passive : frozenset of Name
        Names that may occur as values, such as the types of storages.
    persistent : callable, optional
        Resolves the objects that the pickle says are kept elsewhere.

    Returns
    -------
    object
        Containers, numbers, texts and arrays, the latter to be passed through ``finished``.

    Raises
    ------
    Refused
        The pickle asks for something that is not in ``functions``.
    ValueError, KeyError, ...
        One of ``DAMAGE``: it is no pickle, or a damaged one.
    """
    start = stream.tell()
    stream.seek(0, io.SEEK_END)
    machine = _Machine(functions, passive, persistent, limit=4 * (stream.tell() - start) + 1_000_000)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            return finished(machine.pop())
        machine.step(opcode.name, argument)
    raise EOFError("the pickle does not end")


class _Machine:
    def __init__(
        self,
        functions: dict[Name, Callable[..., Any]],
        passive: frozenset[Name],
        persistent: Callable[[Any], Any] | None,
        limit: int,
    ) -> None:
        self.functions, self.passive, self.persistent, self.limit = functions, passive, persistent, limit
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark instead of a value")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = next((i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is MARK), None)
        if at is None:
            raise ValueError("no mark where one is needed")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        push = self.stack.append
        if name in VALUES:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in EMPTY:
            push(EMPTY[name]())
        elif name in ("BINPUT", "PUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "GET", "LONG_BINGET"):
            push(self.memo[argument])
        elif name == "MARK":
            push(MARK)
        elif name in ("POP", "POP_MARK"):
            self.pop_to_mark() if name == "POP_MARK" else self.stack.pop()
        elif name == "DUP":
            push(self.stack[-1])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            push(self.name(argument))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = self.pop()
            push(self.call(self.pop(), arguments))
        elif name == "BUILD":
            self.build()
        elif name == "BINPERSID" and self.persistent is not None:
            push(self.persistent(finished(self.pop())))
        elif name not in ("PROTO", "FRAME"):
            self.contain(name)

    def contain(self, name: str) -> None:
        """Carry out an opcode that fills a tuple, a list or a dictionary."""
        if name in ("TUPLE", "LIST", "DICT"):
            values = self.pop_to_mark()
            self.stack.append(values if name == "LIST" else tuple(values) if name == "TUPLE" else _pairs(values))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple([self.pop() for _ in range(int(name[-1]))][::-1]))
        elif name in ("APPENDS", "ADDITEMS"):
            values = self.pop_to_mark()
            self.top(list).extend(values)
        elif name == "APPEND":
            value = self.pop()
            self.top(list).append(value)
        elif name == "SETITEMS":
            values = self.pop_to_mark()
            self.top(dict).update(_pairs(values))
        elif name == "SETITEM":
            value, key = self.pop(), self.pop()
            self.top(dict)[finished(key)] = value
        else:
            raise Refused(f"it uses the pickle opcode {name}, which arrays do not need")

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"{type(self.stack[-1]).__name__} instead of a {kind.__name__}")
        return self.stack[-1]

    def name(self, argument: str | None) -> Name:
        """Return the name that is asked for; one that is not known is refused at once, called or not."""
        if argument is None:  # both texts lie on the stack
            last, first = self.pop(), self.pop()
        else:  # pickletools joins them by a space
            first, _, last = argument.partition(" ")
        name = Name(str(first), str(last))
        if name not in self.functions and name not in self.passive:
            raise Refused(f"it asks for {name.module}.{name.name}, and only arrays are read from it; nothing was run")
        return name

    def call(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Name) or not isinstance(arguments, tuple) or name not in self.functions:
            raise Refused(f"it calls {name!r}, which makes no array; nothing was run")
        value = self.functions[name](*map(finished, arguments))
        if isinstance(value, (bytes, bytearray, dict, list, tuple, Storage)):
            self.limit -= value.data.nbytes if isinstance(value, Storage) else len(value)
        if self.limit < 0:
            raise Refused("it copies what it holds over and over; nothing was run")
        return value

    def build(self) -> None:
        """Hand a state to an array or a type under construction; the state of anything else is left aside."""
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, (Array, DType)):
            target.build(tuple(map(finished, state)))


def _pairs(values: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))

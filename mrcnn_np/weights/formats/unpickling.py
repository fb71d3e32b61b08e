"""Pickled arrays and tensors, read without running anything that the file asks for.

A pickle is a program for a small stack machine: its opcodes push values, build containers, and *call* functions by
name, ``os.system`` if it pleases. Here the machine is our own. A name is only a pair of texts, and a call looks the
pair up in a table of functions that make arrays; any other name ends the reading.

A small file can still be a bomb: a tuple of twice the tuple before, forty times over, has 80 opcodes and a million
million leaves, and whoever prints, hashes or compares it does not come back; one stream within another is read again
whenever it is named. So

- a ``Budget`` counts opcodes and the bytes handed to calls, those of streams within streams too;
- nothing here walks into what a pickle built: only texts are looked up, any other key of a dictionary stands for
  itself (``pickled.Key``), and messages name types (``pickled.described``);
- containers are filled by opcodes or in one flat loop, so that nothing recurses, however deep they are.

References
----------
``pickletools`` in the standard library describes the opcodes; PEP 307, PEP 3154 and PEP 574 the protocols. How NumPy
and PyTorch take their objects apart was read off the pickles they write.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from ...errors import WeightFileError
from .pickled import Array, DType, Name, described, dictionary, finished


class Refused(WeightFileError):
    """A pickle asks for something that is neither an array nor a container, or for too much."""


#: what a damaged or a malicious pickle can make the machine stumble over
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError, EOFError)

#: opcodes of one file; a Mask R-CNN with the state of its optimiser takes some 60,000
STEPS = 1_000_000
#: arguments of one call, and parts of one state; PyTorch and NumPy hand over nine at most
ARGUMENTS = 16
#: bytes of one whole number; the longest in published files is PyTorch's magic number of 10
DIGITS = 64


class Budget:
    """What the reading of one file may cost: far more than weights need, and bounded by the size of the file.

    Parameters
    ----------
    size : int
        Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self.steps, self.bytes = STEPS, 8 * size + 1_000_000

    def step(self) -> None:
        """Count one opcode."""
        self.steps -= 1
        if self.steps < 0:
            raise Refused(f"it takes more than {STEPS:,} steps to read; weights take some ten thousand")

    def hand_over(self, values: tuple[Any, ...]) -> None:
        """Count what a call gets, as if it copied everything."""
        if len(values) > ARGUMENTS:
            raise Refused(f"it calls something with {len(values)} arguments; arrays need {ARGUMENTS} at most")
        self.bytes -= sum(len(v) for v in values if isinstance(v, (str, bytes, bytearray, list, tuple, dict)))
        if self.bytes < 0:
            raise Refused("it copies what it holds over and over; nothing was run")


def load(
    stream: IO[bytes],
    functions: dict[Name, Callable[..., Any]],
    budget: Budget,
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
    budget : Budget
        Of the whole file.
    passive : frozenset of Name
        Names that may occur as values, such as the types of storages.
    persistent : callable, optional
        Resolves the objects that the pickle says are kept elsewhere.

    Returns
    -------
    object
        Containers, numbers, texts and arrays, the latter to be passed through ``finished``. It may contain itself.

    Raises
    ------
    Refused
        The pickle asks for something that is not in ``functions``, or for more than the budget.
    ValueError, KeyError, ...
        One of ``DAMAGE``: it is no pickle, or a damaged one.
    """
    machine = _Machine(functions, budget, passive, persistent)
    for opcode, argument, _ in pickletools.genops(stream):
        budget.step()
        if opcode.name == "STOP":
            return finished(machine.pop())
        machine.step(opcode.name, argument)
    raise EOFError("the pickle does not end")


class _Machine:
    """The stack, the marks on it (as positions), and the memo (a list: pickles number it from 0 or 1)."""

    def __init__(
        self,
        functions: dict[Name, Callable[..., Any]],
        budget: Budget,
        passive: frozenset[Name],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.functions, self.budget, self.passive, self.persistent = functions, budget, passive, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name not in STEPS_OF:
            raise Refused(f"it uses the pickle opcode {name}, which arrays do not need")
        STEPS_OF[name](self, argument)

    # --- stack and memo ---------------------------------------------------------------------------------------------

    def value(self, value: Any) -> None:
        """Push the argument of the opcode."""
        if type(value) is int and value.bit_length() > 8 * DIGITS:
            raise Refused(f"it holds a whole number of {value.bit_length() // 8} bytes, which arrays do not need")
        self.stack.append(value)

    def top(self) -> Any:
        """Return the value on top, which may not lie below a mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("a mark instead of a value")
        return self.stack[-1]

    def pop(self) -> Any:
        """Take the value from the top."""
        self.top()
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def drop(self, _: Any) -> None:
        """Take a value or a mark away."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def drop_to_mark(self, _: Any) -> None:
        """Take everything above the mark away, and the mark."""
        self.pop_to_mark()

    def put(self, place: int) -> None:
        """Remember the value on top. Places are given in order: one far ahead would be a table of empty ones."""
        value = self.top()
        if not 0 <= place <= len(self.memo) + 1:
            raise ValueError(f"{described(place)} as a place in a memo of {len(self.memo)}")
        self.memo.extend([None] * (place + 1 - len(self.memo)))
        self.memo[place] = value

    def get(self, place: int) -> None:
        """Push what is remembered."""
        if place < 0:
            raise ValueError("a place in the memo below 0")
        self.stack.append(self.memo[place])

    # --- containers -------------------------------------------------------------------------------------------------

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the values on top."""
        self.stack.append(tuple([self.pop() for _ in range(count)][::-1]))

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top."""
        self._container(list).extend(values)

    def set(self, values: list[Any]) -> None:
        """Put keys and values in turn into the dictionary on top."""
        self._container(dict).update(dictionary(zip(values[::2], values[1::2], strict=True)))

    def set_one(self, _: Any) -> None:
        """Put one key and its value into the dictionary below them."""
        value, key = self.pop(), self.pop()
        self.set([key, value])

    def append_one(self, _: Any) -> None:
        """Append one value to the list below it."""
        value = self.pop()
        self.extend([value])

    def make_dict(self, _: Any) -> None:
        """Make a dictionary of everything above the mark."""
        values = self.pop_to_mark()
        self.stack.append({})
        self.set(values)

    def _container(self, kind: type) -> Any:
        container = self.top()
        if type(container) is not kind:
            raise ValueError(f"{described(container)} instead of a {kind.__name__}")
        return container

    # --- names, calls and states ------------------------------------------------------------------------------------

    def name(self, argument: str | None) -> None:
        """Push the name that is asked for; one that is not known is refused at once, called or not."""
        if argument is None:  # both texts lie on the stack
            last, first = self.pop(), self.pop()
        else:  # pickletools joins them by a space
            first, _, last = argument.partition(" ")
        if not isinstance(first, str) or not isinstance(last, str):
            raise ValueError(f"{described(first)} and {described(last)} as a name")
        name = Name(first, last)
        if name not in self.functions and name not in self.passive:
            raise Refused(f"it asks for {described(name)}, and only arrays are read from it; nothing was run")
        self.stack.append(name)

    def call(self, _: Any) -> None:
        """Push what a function makes of its arguments."""
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or type(arguments) is not tuple or name not in self.functions:
            raise Refused(f"it calls {described(name)}, which makes no array; nothing was run")
        self.budget.hand_over(arguments)
        self.stack.append(self.functions[name](*map(finished, arguments)))

    def build(self, _: Any) -> None:
        """Hand a state to an array or a type under construction; the state of anything else is left aside."""
        state, target = self.pop(), self.top()
        if isinstance(target, (Array, DType)):
            if type(state) is not tuple:
                raise ValueError(f"{described(state)} as the state of an array")
            self.budget.hand_over(state)
            target.build(tuple(map(finished, state)))

    def resolve(self, _: Any) -> None:
        """Push the object that the reference on the stack stands for."""
        if self.persistent is None:
            raise Refused("it refers to objects outside of itself, which arrays do not need")
        reference = self.pop()
        if type(reference) is not tuple:
            raise ValueError(f"{described(reference)} as a reference")
        self.stack.append(self.persistent(reference))


#: opcodes that push their argument as it is
VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip
#: opcodes and what they do with the machine
STEPS_OF: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(VALUES, _Machine.value),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda m, _: m.stack.append([])),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(("BINPUT", "PUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    **dict.fromkeys(("BINGET", "GET", "LONG_BINGET"), _Machine.get),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_to_mark,
    "DUP": lambda m, _: m.stack.append(m.top()),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine.name),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.resolve,
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "APPEND": _Machine.append_one,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: m.extend(m.pop_to_mark())),
    "DICT": _Machine.make_dict,
    "SETITEM": _Machine.set_one,
    "SETITEMS": lambda m, _: m.set(m.pop_to_mark()),
}

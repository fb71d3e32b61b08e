"""How a field of the configuration is declared: everything that is known of it stands beside its default.

::

    rpn_channels: int = size(256, CHANNELS, matterport=512, weights="network", shown_by=("rpn.conv.b",))

Checks, presets, tables, the switchboard and the readers of weights ask the declarations; none of them has a list of
fields of its own. A new field is one line here, and its documentation in the docstring of its group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

Kind = Literal["identity", "size", "convention", "schedule"]
#: the key in ``dataclasses.Field.metadata``
KEY = "declaration"
#: whose answers are known; each has a preset of its name
FRAMEWORKS = ("matterport", "torchvision", "detectron2")

_AS_DEFAULT: Any = object()


@dataclass(frozen=True)
class Range:
    """The numbers that a field may hold, or each of its numbers.

    Attributes
    ----------
    low, high : int or float
    above : bool
        ``low`` itself is not allowed.
    words : str
        What a message says instead, where another field or the order of the numbers matters, too.

    Notes
    -----
    The upper ends are no statement about what is sensible. They are far above all networks that are known, and so low
    that a number from a damaged or hostile file cannot fill the memory by itself, or keep a loop going for days.
    """

    low: float
    high: float
    above: bool = False
    words: str = ""

    def __contains__(self, number: float) -> bool:
        """Tell whether a number is allowed; NaN is not."""
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def expected(self, *, or_none: bool = False) -> str:
        """Say in words what is allowed; "positive, or none, and at most 10" if None is, too."""
        if self.words:
            return self.words
        none = ", or none" if or_none else ""
        if (self.low, self.high) == (0, 1):
            return f"in {self}{none}"
        if self.low == 0 and not self.above:
            least = "0 or more"
        else:
            least = "positive" if self.low in (0, 1) else f"at least {_number(self.low)}"
        return f"{least}{none}{',' * bool(none)} and at most {_number(self.high)}"

    def __str__(self) -> str:
        """Write it as an interval: (0, 1]."""
        return f"{'(' if self.above else '['}{_number(self.low)}, {_number(self.high)}]"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) <= 1e9 else f"{value:g}"


@dataclass(frozen=True)
class Declaration:
    """What is known of one field besides its type, its default and its documentation.

    Attributes
    ----------
    kind : str
        "identity": names and classes. "size": what a network was built for, and by how much it is worked; no convention
        unless it is a framework's. "convention": what frameworks do differently, or might. "schedule": it changes no
        tensor of a given step, or only how far the weights move.
    range : Range or None
        Of numbers.
    entries : int
        A tuple of any length has at most so many.
    answers : mapping of str to value
        What a framework has instead of the default.
    others : mapping of value to str
        Values that no framework has, but that documents, papers or learners propose, and whose they are.
    together : str
        Another field, without which this one means nothing: the switchboard changes both at once.
    needs : str
        Another field, while which is 0 this one means nothing: where that branch is missing, it is no convention.
    weights : str
        "backbone" or "network": the numbers of a backbone's or of a whole network's weights mean something else under
        another value, so it is kept with them and compared. Empty: it may be chosen anew for given weights.
    in_tensors : bool
        Names and shapes of a backbone's tensors tell the value. Those that they do not tell have to be presumed.
    shown_by : tuple of str
        Tensors whose last axis has this length; the first that exists tells the value.
    counted_by : str
        Regular expression: the value is the largest number in names of tensors that match it.
    built_in : tuple of str
        Frameworks whose code knows no other value than their own.
    """

    kind: Kind
    range: Range | None = None
    entries: int = 100
    answers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    others: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    together: str = ""
    needs: str = ""
    weights: Literal["", "backbone", "network"] = ""
    in_tensors: bool = False
    shown_by: tuple[str, ...] = ()
    counted_by: str = ""
    built_in: tuple[str, ...] = ()


def declare(
    kind: Kind,
    default: Any = dataclasses.MISSING,
    range: Range | None = None,
    *,
    matterport: Any = _AS_DEFAULT,
    torchvision: Any = _AS_DEFAULT,
    detectron2: Any = _AS_DEFAULT,
    **known: Any,
) -> Any:
    """Return a field of a dataclass with its declaration.

    Parameters
    ----------
    kind : str
        See ``Declaration``.
    default : value
        Without one the field has to be given.
    range : Range, optional
    matterport, torchvision, detectron2 : value
        What the framework has, if that is not the default.
    **known
        Further attributes of the ``Declaration``.

    Returns
    -------
    dataclasses.Field
    """
    answers = dict(zip(FRAMEWORKS, (matterport, torchvision, detectron2)))
    answers = {name: value for name, value in answers.items() if value is not _AS_DEFAULT}
    declaration = Declaration(kind, range, answers=answers, **known)
    return dataclasses.field(default=default, metadata={KEY: declaration})


identity = partial(declare, "identity")
size = partial(declare, "size")
convention = partial(declare, "convention")
schedule = partial(declare, "schedule")

"""Names of classes that may be one name, spelt in two ways."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

#: a misspelt name has at most this share of the objects of the right one, and at least one
RARE = 1 / 20
#: letters of a word in which one is exchanged with the next, of one in which one is missing or too many, and of one in
#: which one is another: many words of five letters are another word then, as "horse" and "house", "track" and "truck"
LEAST_EXCHANGED, LEAST_LETTERS, LEAST_OTHER = 4, 5, 6

#: capitals, spaces, dashes; a dash or space that has no letter beside it tells numbers apart: "1-2" is not "12"
_GAP = re.compile(r"(?<=[^\W\d_])[\s_-]+|[\s_-]+(?=[^\W\d_])")
#: words and numbers of a name, also of ``bodyPart2``
_WORDS = re.compile(r"[^\W\d_]+?(?=(?<=[^\W\d_A-Z])[A-Z])|[^\W\d_]+|\d+")
#: words that take -es in the plural end so
_ES = ("s", "x", "z", "ch", "sh", "o")


class Spelt(NamedTuple):
    """Names that may be one.

    Attributes
    ----------
    how : str
        What they differ by.
    names : tuple of str
        That with the most objects first.
    """

    how: str
    names: tuple[str, ...]


def spelt_twice(objects: Mapping[str, int]) -> list[Spelt]:
    """Return groups of names that may be one class.

    Parameters
    ----------
    objects : mapping of str to int
        How many objects there are of each class.

    Returns
    -------
    list of Spelt
        Names that differ by capitals, spaces, dashes or an English plural, always. Names of which one word differs by
        one letter if the word is long enough, it is neither the first nor the last letter, which often tell classes
        apart ("typical", "atypical"; "typex", "typey"), and one class is rare beside the other.
    """
    groups: dict[str, list[str]] = {}
    for name in objects:
        groups.setdefault(_folded(name), []).append(name)
    for folded in list(groups):
        for plural in _plurals(folded):
            if plural in groups and folded in groups:
                groups[folded] += groups.pop(plural)
    found = []
    for names in groups.values():
        if len(names) > 1:
            same = len({_folded(name) for name in names}) == 1
            how = "capitals, spaces or dashes" if same else "the plural"
            found.append(Spelt(how, tuple(sorted(names, key=lambda name: -objects[name]))))
    firsts = [max(names, key=lambda name: objects[name]) for names in groups.values()]
    return found + [Spelt("one letter", pair) for pair in _misspelt({name: objects[name] for name in firsts})]


def _folded(name: str) -> str:
    """Return a name without capitals and gaps; one letter stays as it is, as handwriting has classes "A" and "a"."""
    name = name.strip()
    return name if len(name) < 2 else _GAP.sub("", name).strip("_- ").casefold()


def _plurals(name: str) -> Iterator[str]:
    """Yield what the plural of a folded name may be."""
    if len(name) < 3 or not name[-1].isalpha():
        return
    if name.endswith(_ES):
        yield f"{name}es"
    if not name.endswith("s"):
        yield f"{name}s"
    if name.endswith("y"):
        yield f"{name[:-1]}ies"


def _misspelt(objects: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield pairs that differ by one letter, the frequent one first."""
    words = {name: [word.casefold() for word in _WORDS.findall(name)] for name in objects}
    alike: dict[tuple[int, str], list[str]] = {}
    for name, parts in words.items():
        if parts and objects[name]:
            alike.setdefault((len(parts), parts[0][0]), []).append(name)
    for names in alike.values():
        for pair in combinations(names, 2):
            rare, frequent = sorted(pair, key=lambda name: objects[name])
            if objects[rare] <= RARE * objects[frequent]:
                differing = [(a, b) for a, b in zip(words[rare], words[frequent]) if a != b]
                if len(differing) == 1 and _one_letter(*differing[0]):
                    yield frequent, rare


def _one_letter(a: str, b: str) -> bool:
    """Say whether two words have one letter more, less, another or two exchanged."""
    shorter, longer = sorted((a, b), key=len)
    if len(shorter) < LEAST_EXCHANGED or len(longer) > len(shorter) + 1 or not all(map(_has_case, a + b)):
        return False
    first = next((k for k, (x, y) in enumerate(zip(shorter, longer)) if x != y), len(shorter))
    after, last = longer[first + 1 :], shorter[-1] == longer[-1]
    if first == 0:
        return False
    if len(longer) > len(shorter):
        return last and shorter[first:] == after and len(shorter) >= LEAST_LETTERS
    if shorter[first + 1 :] == after:
        return last and len(shorter) >= LEAST_OTHER
    return shorter[first + 1] == longer[first] and shorter[first] == after[0] and shorter[first + 2 :] == after[1:]


def _has_case(letter: str) -> bool:
    """Say whether it is a letter of an alphabet: where a sign is a word, one of five is a large difference."""
    return letter.isalpha() and letter.lower() != letter.upper()

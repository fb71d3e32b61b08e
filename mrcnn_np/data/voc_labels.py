"""Images whose pixels are the numbers of objects or classes: palette and grey PNG, colours, NumPy arrays."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np

from ..errors import DataError
from .images import MAX_PIXELS, read_index_mask, read_mask_colours

VOID = 255
"""The index of pixels nobody labelled: VOC draws a line of them around every object."""


def colour_map(n: int = 256) -> np.ndarray:
    """Return VOC's palette.

    The lowest three bits of an index are the highest bits of red, green and blue, the next three bits the second
    highest, and so on: neighbouring indices get colours far apart.

    Parameters
    ----------
    n : int
        Number of entries.

    Returns
    -------
    palette : ndarray of shape (n, 3), uint8
        RGB; entry 0 is black, entry 255 (void) is ``(224, 224, 192)``.
    """
    index = np.arange(n)
    palette = np.zeros((n, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (index >> (3 * place + channel)) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette


def read_labels(
    path: Path,
    *,
    image_id: str,
    colours: dict[tuple[int, int, int], int] | None = None,
    content: bytes | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the number of each pixel's object or class.

    Parameters
    ----------
    path : Path
        A PNG, or a NumPy array (H, W) of whole numbers.
    image_id : str
        Handed on to errors.
    colours : dict of (int, int, int) to int, optional
        What the colours of an RGB file mean. By default those of VOC's palette are its indices; a file with others
        gets numbers in the order of the colours, which tells objects apart.
    content : bytes, optional
        What a PNG holds that is no file of its own; see `read_image`.

    Returns
    -------
    labels : ndarray of shape (H, W), int
        0 is background; also where void.
    void : ndarray of shape (H, W), bool
        Pixels that nobody labelled: 255 in a file of 8 bits, 65535 in one of 16, -1 in an array. In the latter two 255
        is void as well, unless 1 .. 254 all occur, so that it is the next number.
    """
    if path.suffix == ".npy":
        numbers = _read_array(path, image_id)
    else:
        in_colour = read_mask_colours(path, image_id=image_id, palette=bool(colours), content=content)
        if in_colour is not None:
            return _of_colours(in_colour, colours, path, image_id)
        numbers = read_index_mask(path, image_id=image_id, content=content)
    void = numbers == VOID
    if numbers.dtype != np.uint8:
        if void.any() and len(np.unique(numbers[(numbers > 0) & (numbers < VOID)])) == VOID - 1:
            void = np.zeros_like(void)
        void |= numbers == (-1 if path.suffix == ".npy" else 65535)
    return np.where(void, 0, numbers), void


def _of_colours(
    pixels: np.ndarray, colours: dict[tuple[int, int, int], int] | None, path: Path, image_id: str
) -> tuple[np.ndarray, np.ndarray]:
    packed = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found, place = np.unique(packed, return_inverse=True)
    palette = {_pack(colour): k for k, colour in enumerate(colour_map().tolist())}
    known = {0: 0} | ({_pack(colour): k for colour, k in colours.items()} if colours else palette)
    white = _pack(colour_map()[VOID].tolist())
    strange = [colour for colour in found.tolist() if colour not in known and colour != white]
    if strange and colours:
        red, green, blue = strange[0] >> 16, strange[0] >> 8 & 255, strange[0] & 255
        message = f"has the colour {red},{green},{blue}; expected those that labelmap.txt lists"
        raise DataError(message, path=path, image_id=image_id)
    if strange:
        rest = [colour for colour in found.tolist() if colour not in (0, white)]
        known = {0: 0} | {colour: k for k, colour in enumerate(rest, start=1)}
    numbers = np.array([known.get(colour, 0) for colour in found.tolist()], np.int32)
    void = (packed == white) & (known.get(white, VOID) == VOID)
    labels = numbers[place].reshape(packed.shape)
    return np.where(void, 0, labels), void


def _pack(colour: tuple[int, ...] | list[int]) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _read_array(path: Path, image_id: str) -> np.ndarray:
    """Read a NumPy file without unpickling anything."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        if array.ndim != 2 or array.dtype.kind not in "iub" or not 0 < array.size <= MAX_PIXELS:
            raise ValueError(f"it has shape {array.shape} and type {array.dtype}")
        numbers = np.array(array, np.int64)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, OverflowError,
            tokenize.TokenError) as error:  # fmt: skip
        raise DataError(
            f"cannot be read ({error}); expected an array (H, W) of whole numbers", path=path, image_id=image_id
        ) from error
    if numbers.min() < -1 or numbers.max() > 1 << 30:
        raise DataError(
            f"has the numbers {numbers.min()} .. {numbers.max()}; expected -1 .. {1 << 30}",
            path=path,
            image_id=image_id,
        )
    return numbers.astype(np.int32)

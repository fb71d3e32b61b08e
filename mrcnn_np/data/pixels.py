"""Pixels of any of Pillow's modes as 8-bit RGB; `read_image` says by which rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

SCALED = "16-bit grey is divided so that the fewest bits that hold its brightest pixel become 8"
LOW_VALUES = "16-bit grey has no value above 255, so it is read as 8-bit"
OVER_WHITE = "transparent pixels are laid over white"
ALPHA_IGNORED = "alpha is 0 everywhere, so it is ignored and the colours are taken as stored"
_STRIP = 1 << 20  # pixels converted at a time: a second and third copy of the whole image would be the peak of memory


def to_rgb(picture: Image.Image, note: Callable[[str], None], path: str | Path, image_id: str | None) -> np.ndarray:
    """Convert any of Pillow's modes, strip by strip.

    Parameters
    ----------
    picture : PIL.Image.Image
    note : callable
        Is told what changes pixels.
    path, image_id
        For messages.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8

    Raises
    ------
    DataError
        The pixels are no whole numbers of at most 16 bits.
    """
    if picture.mode == "F":
        raise DataError("holds floating-point values; expected 8 or 16 bits per channel", path=path, image_id=image_id)
    width, height = picture.size
    out = np.empty((height, width, 3), np.uint8)
    if picture.mode.startswith("I"):
        low, high = _extrema(picture)
        if low < 0 or high > 65535:
            raise DataError(
                f"has values {low} .. {high}; expected 8 or 16 bits per channel", path=path, image_id=image_id
            )
        levels = grey_levels(high)
        note(SCALED if high > 255 else LOW_VALUES)
        for rows, strip in _strips(picture):
            out[rows] = levels[np.asarray(strip)][:, :, None]
        return out
    over_white = False
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        low, high = _alpha(picture)
        over_white = high > 0 and low < 255
        if low < 255:
            note(OVER_WHITE if over_white else ALPHA_IGNORED)
    for rows, strip in _strips(picture):
        if over_white:
            strip = strip.convert("RGBA")
            white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
            strip = Image.alpha_composite(white, strip)
        out[rows] = np.asarray(_opaque(strip).convert("RGB"))
    return out


def grey_levels(brightest: int) -> np.ndarray:
    """Return the 8-bit level of every 16-bit value of an image whose brightest pixel has the value ``brightest``."""
    full = (1 << max(8, int(brightest).bit_length())) - 1
    values = np.minimum(np.arange(65536), full)
    return ((2 * 255 * values + full) // (2 * full)).astype(np.uint8)


def _opaque(strip: Image.Image) -> Image.Image:
    """Forget the premultiplied forms of alpha, which cannot become RGB directly."""
    return strip.convert({"RGBa": "RGBA", "La": "LA"}[strip.mode]) if strip.mode in ("RGBa", "La") else strip


def _strips(picture: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the image in strips of whole lines."""
    width, height = picture.size
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), picture.crop((0, top, width, bottom))


def _extrema(picture: Image.Image) -> tuple[int, int]:
    parts = [np.asarray(strip) for _, strip in _strips(picture)]
    return min(int(p.min()) for p in parts), max(int(p.max()) for p in parts)


def _alpha(picture: Image.Image) -> tuple[int, int]:
    """Return the lowest and highest alpha."""
    low, high = 255, 0
    for _, strip in _strips(picture):
        found = strip.convert("RGBA").getchannel("A").getextrema()
        low, high = min(low, int(found[0])), max(high, int(found[1]))  # type: ignore[arg-type]
    return low, high

"""Image files: whatever Pillow can open becomes ``(H, W, 3)`` 8-bit RGB, and whatever it cannot is a ``DataError``."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (a small file can claim a size that fills the memory)."""

_EXIF_ORIENTATION = 0x0112
# What Pillow's decoders raise on files that are cut short or damaged (AVIF's: RuntimeError). Not Exception: MemoryError
# and KeyboardInterrupt must pass.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


def read_image(path: str | Path, *, image_id: str | None = None) -> np.ndarray:
    """Read an image file as 8-bit RGB, upright.

    Parameters
    ----------
    path : path
        A JPEG, PNG or anything else that Pillow reads; of an animation the first frame.
    image_id : str, optional
        Handed on to the error.

    Returns
    -------
    image : ndarray of shape (H, W, 3), uint8
        RGB. The orientation in the EXIF data is applied, so H and W are those that a viewer shows.

    Raises
    ------
    DataError
        The file is missing, no image, cut short, larger than ``MAX_PIXELS``, or of floating-point values.

    Notes
    -----
    Grey is repeated over the channels. 16-bit grey is divided by 257, so that 65535 becomes 255 (clipping at 255, which
    ``Image.convert`` does, turns nearly everything white). Transparent pixels are laid over white, as a viewer does:
    the colour stored beneath full transparency is arbitrary, often black. CMYK is converted without a colour profile.
    """
    with _opened(path, "an image (JPEG, PNG, ...)", image_id) as picture:
        try:
            picture.load()
            # After load(): until then the EXIF of some formats has not been read.
            return _to_rgb(ImageOps.exif_transpose(picture), path, image_id)
        except _DECODE_ERRORS as error:
            raise DataError(
                f"cannot be decoded ({error}); expected a whole image file", path=path, image_id=image_id
            ) from error


def read_index_mask(path: str | Path, *, image_id: str | None = None) -> np.ndarray:
    """Read a mask file whose pixels are numbers: a palette PNG (the colours do not matter) or an 8-bit grey one.

    Parameters
    ----------
    path : path
        The PNG file.
    image_id : str, optional
        Handed on to the error.

    Returns
    -------
    indices : ndarray of shape (H, W), uint8
        Palette indices as stored; no EXIF orientation is applied.

    Raises
    ------
    DataError
        As `read_image`; also when the file holds colours instead of indices.
    """
    with _opened(path, "a palette PNG", image_id) as picture:
        if picture.mode not in ("P", "L"):
            raise DataError(
                f"has mode {picture.mode}; expected a palette or 8-bit grey PNG whose pixels are instance numbers",
                path=path,
                image_id=image_id,
            )
        try:
            return np.array(picture, dtype=np.uint8)
        except _DECODE_ERRORS as error:
            raise DataError(
                f"cannot be decoded ({error}); expected a whole PNG file", path=path, image_id=image_id
            ) from error


def exif_orientation(path: str | Path) -> int:
    """Return the EXIF orientation 1 .. 8 of an image file: 1 is upright, or no such entry, or no readable file."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except _DECODE_ERRORS:
        return 1


def _opened(path: str | Path, expected: str, image_id: str | None) -> Image.Image:
    """Open a file and read its header only; the pixels are decoded later."""
    if not os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise DataError(f"{what}; expected {expected}", path=path, image_id=image_id)
    try:
        with warnings.catch_warnings():
            # MAX_PIXELS below is this project's own guard against huge sizes; Pillow's warning would be noise.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"is too large ({error}); expected at most {MAX_PIXELS} pixels", path=path, image_id=image_id
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"is not an image; expected {expected}", path=path, image_id=image_id) from error
    except _DECODE_ERRORS as error:
        raise DataError(f"cannot be opened ({error}); expected {expected}", path=path, image_id=image_id) from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        picture.close()
        raise DataError(
            f"is too large ({width} x {height}); expected at most {MAX_PIXELS} pixels", path=path, image_id=image_id
        )
    return picture


def _to_rgb(picture: Image.Image, path: str | Path, image_id: str | None) -> np.ndarray:
    """Convert any of Pillow's modes."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"has values {values.min()} .. {values.max()}; expected 8 or 16 bits per channel",
                path=path,
                image_id=image_id,
            )
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise DataError("holds floating-point values; expected 8 or 16 bits per channel", path=path, image_id=image_id)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))

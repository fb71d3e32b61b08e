"""Image files: each of the formats in ``FORMATS`` becomes ``(H, W, 3)`` 8-bit RGB, any other a ``DataError``."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError, DataWarning
from ..files import did_you_mean_path
from .notes import Notes
from .orientation import TURNS, upright
from .pixels import to_rgb

FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""The formats that are opened, whatever a file is called, and their usual suffixes.

Pillow knows more, but among them some that start other programs (EPS: Ghostscript) and many that hardly anybody tests.
"""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (a small file can claim a size that fills the memory)."""

MAX_SIDE = 65_535
"""The longest side that is read, as in JPEG."""

EXPECTED = "an image (JPEG, PNG, BMP, GIF, TIFF, WebP or PPM)"
_EXIF_ORIENTATION = 0x0112
# What Pillow's decoders raise on files that are cut short or damaged. MemoryError: a size that does not fit. Not
# Exception: KeyboardInterrupt must pass.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

DAMAGED = "damaged entries beside the pixels (EXIF data, such as the orientation) are left out"
FIRST_FRAME = "of several frames or pages the first is read"
UPPER_BITS = "of 16-bit colours the upper 8 bits are read, so that fewer bits in use become dark; save them as 8-bit"


@contextlib.contextmanager
def pillow_quiet() -> Iterator[list[str]]:
    """Show no warning that Pillow raises meanwhile: its errors become ours, and ``MAX_PIXELS`` guards against sizes.

    Yields
    ------
    list of str
        Filled with what it says of damaged EXIF data and damaged entries of a TIFF; one module of it reads both.
    """
    damage: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")  # nor is it an error where warnings are
        usual = warnings.showwarning

        def show(message: Any, category: Any, filename: str, *rest: Any, **options: Any) -> None:
            place = Path(filename)
            if place.parent.name != "PIL":
                usual(message, category, filename, *rest, **options)
            elif place.stem == "TiffImagePlugin" and not str(message).startswith("Metadata Warning"):
                damage.append(str(message))

        warnings.showwarning = show
        yield damage


def read_image(
    path: str | Path, *, image_id: str | None = None, notes: Notes | None = None, content: bytes | None = None
) -> np.ndarray:
    """Read an image file as 8-bit RGB, upright.

    Parameters
    ----------
    path : path
        A file of one of ``FORMATS``; of an animation the first frame.
    image_id : str, optional
        Handed on to the error.
    notes : Notes, optional
        Where remarks are collected; without it each is a `DataWarning`.
    content : bytes, optional
        What the file holds, where it is no file of its own but one in a zip, say; ``path`` is for messages then.

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
    What changes pixels, each by one rule and with one remark:

    - 16-bit grey: let b be the fewest bits (at least 8) that hold the brightest pixel; values are divided by
      ``(2**b - 1) / 255``. An image of a 12-bit camera becomes as bright as if it had 12 bits, one that uses all 16 is
      divided by 257. (``Image.convert`` clips at 255, which turns nearly everything white.)
    - Transparent pixels are laid over white, as a viewer does: the colour stored beneath full transparency is
      arbitrary, often black. Where alpha is 0 *everywhere* it means nothing, and the colours are taken as stored.
    - Of colours with 16 bits a channel the upper 8 bits are read; Pillow has no other way.
    - Of several frames or pages the first is read.
    - Damaged EXIF data, or such entries of a TIFF, are left out.

    Grey and one-bit images are repeated over the channels, palettes looked up, CMYK and others converted without a
    colour profile.
    """

    def note(kind: str) -> None:
        if notes is not None:
            notes.add(kind, path)
        else:
            warnings.warn(f"{path}: {kind}", DataWarning, stacklevel=3)

    with pillow_quiet() as damage, open_picture(path, EXPECTED, image_id, content) as picture:
        try:
            picture.load()
            # After load(): until then the EXIF of some formats has not been read.
            orientation = orientation_of(picture)
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # MPO: a photo and its previews
                note(FIRST_FRAME)
                picture.seek(0)
            if _sixteen_bit_colour(picture, path, content):
                note(UPPER_BITS)
            image = to_rgb(picture, note, path, image_id)
            if damage:
                note(DAMAGED)
        except DECODE_ERRORS as error:
            raise not_decoded(error, path, image_id, "an image file") from error
    return upright(image, orientation)


def read_index_mask(path: str | Path, *, image_id: str | None = None, content: bytes | None = None) -> np.ndarray:
    """Read a mask file whose pixels are numbers: a palette PNG (the colours do not matter) or a grey one.

    Parameters
    ----------
    path : path
        The PNG file.
    image_id : str, optional
        Handed on to the error.
    content : bytes, optional
        As in `read_image`.

    Returns
    -------
    indices : ndarray of shape (H, W), uint8, uint16 or int32
        Palette indices as stored; no EXIF orientation is applied.

    Raises
    ------
    DataError
        As `read_image`; also when the file holds colours instead of indices.
    """
    with pillow_quiet(), open_picture(path, "a palette PNG", image_id, content) as picture:
        if picture.mode not in ("P", "L", "I", "I;16", "I;16B", "I;16L"):
            raise DataError(
                f"has mode {picture.mode}; expected a palette or grey PNG whose pixels are instance numbers",
                path=path,
                image_id=image_id,
            )
        try:
            picture.load()
            indices = np.asarray(picture)
            return indices.astype(indices.dtype.newbyteorder("="))
        except DECODE_ERRORS as error:
            raise not_decoded(error, path, image_id, "a PNG file") from error


def read_mask_colours(
    path: str | Path, *, image_id: str | None = None, palette: bool = False, content: bytes | None = None
) -> np.ndarray | None:
    """Read a mask file whose pixels are colours.

    Parameters
    ----------
    path : path
    image_id : str, optional
        Handed on to the error.
    palette : bool
        Whether of a palette file, too, the colours count.
    content : bytes, optional
        As in `read_image`.

    Returns
    -------
    colours : ndarray of shape (H, W, 3), uint8, or None
        None if the file holds numbers; see `read_index_mask`.

    Raises
    ------
    DataError
        As `read_image`.
    """
    with pillow_quiet(), open_picture(path, "a PNG of colours or numbers", image_id, content) as picture:
        if picture.mode not in ("RGB", "RGBA") and not (palette and picture.mode == "P"):
            return None
        try:
            picture.load()
            return np.array(picture.convert("RGB"))
        except DECODE_ERRORS as error:
            raise not_decoded(error, path, image_id, "a PNG file") from error


def read_silhouette(path: str | Path, *, image_id: str | None = None, content: bytes | None = None) -> np.ndarray:
    """Read the mask of one object from a file that is black but for its pixels.

    Parameters
    ----------
    path : path
    image_id : str, optional
        Handed on to the error.
    content : bytes, optional
        As in `read_image`.

    Returns
    -------
    mask : ndarray of shape (H, W), bool
        Where the brightest channel is above half of the image's maximum, so that 0 and 1, 0 and 255, edges that were
        smoothed, and JPEG all do; of a palette, every index but 0. What is transparent is not of the object.

    Raises
    ------
    DataError
        As `read_image`.
    """
    expected = "the mask of one object, black but for its pixels"
    with pillow_quiet(), open_picture(path, expected, image_id, content) as picture:
        try:
            picture.load()
            if picture.mode == "P":
                return np.asarray(picture) != 0
            if picture.mode not in ("1", "L", "I", "I;16", "I;16B", "I;16L"):
                picture = picture.convert("RGBA")
            values = np.asarray(picture)
        except DECODE_ERRORS as error:
            raise not_decoded(error, path, image_id, "an image file") from error
    if values.ndim == 3:
        values = np.where(values[..., 3] > 127, values[..., :3].max(axis=2), 0)
    return values > values.max() / 2


def image_size(path: str | Path, *, image_id: str | None = None, content: bytes | None = None) -> tuple[int, int]:
    """Return (H, W) of an image as stored, before its EXIF orientation, from its header; raises as `read_image`.

    Parameters
    ----------
    path : path
    image_id : str, optional
    content : bytes, optional
        As in `read_image`.
    """
    with pillow_quiet(), open_picture(path, EXPECTED, image_id, content) as picture:
        return picture.size[1], picture.size[0]


def exif_orientation(path: str | Path, *, content: bytes | None = None) -> int:
    """Return the EXIF orientation 1 .. 8 of an image file: 1 is upright, or no such entry, or no readable file."""
    try:
        with pillow_quiet(), open_picture(path, EXPECTED, None, content) as picture:
            return orientation_of(picture)
    except (DataError, *DECODE_ERRORS):
        return 1


def orientation_of(picture: Image.Image) -> int:
    """Return the EXIF orientation of an opened picture; 1 if it says none, or one that there is not."""
    found = picture.getexif().get(_EXIF_ORIENTATION, 1)
    return found if found in TURNS else 1


def not_decoded(error: BaseException, path: str | Path, image_id: str | None, what: str) -> DataError:
    """Return what to raise where Pillow could not decode.

    Parameters
    ----------
    error : Exception
        One of ``DECODE_ERRORS``.
    path, image_id
        As in `read_image`.
    what : str
        What was expected to be whole.
    """
    if isinstance(error, MemoryError):
        return DataError("needs more memory than there is; expected a smaller image", path=path, image_id=image_id)
    return DataError(f"cannot be decoded ({error}); expected {what} that is whole", path=path, image_id=image_id)


def open_picture(path: str | Path, expected: str, image_id: str | None, content: bytes | None = None) -> Image.Image:
    """Open a file, while `pillow_quiet`, and read its header only; the pixels are decoded later.

    Parameters
    ----------
    path, image_id, content
        As in `read_image`.
    expected : str
        What should be there, for messages.
    """
    if content is None and not _is_file(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        # of a data set a thousand may be missing; without an id somebody typed the name
        meant = did_you_mean_path(path) if image_id is None and not os.path.lexists(path) else ""
        raise DataError(f"{what}; expected {expected}{meant}", path=path, image_id=image_id)
    try:
        picture = Image.open(path if content is None else io.BytesIO(content), formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise DataError(
            f"is too large ({error}); expected at most {MAX_PIXELS} pixels", path=path, image_id=image_id
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"is not an image; expected {expected}", path=path, image_id=image_id) from error
    except DECODE_ERRORS as error:
        raise DataError(f"cannot be opened ({error}); expected {expected}", path=path, image_id=image_id) from error
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE or min(width, height) < 1:
        picture.close()
        raise DataError(
            f"is too large ({width} x {height}); expected at most {MAX_PIXELS} pixels, no side above {MAX_SIDE}",
            path=path,
            image_id=image_id,
        )
    return picture


def _is_file(path: str | Path) -> bool:
    try:
        return os.path.isfile(path)  # unlike Path.is_file, no error for a name that is too long
    except ValueError:  # a name with a null character
        return False


def _sixteen_bit_colour(picture: Image.Image, path: str | Path, content: bytes | None) -> bool:
    """Say whether a file has 16 bits for each of several channels, which Pillow cuts to 8 without a word."""
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(258, (8,))
        return picture.mode != "L" and len(bits) > 1 and max(bits) > 8
    if picture.format != "PNG":
        return False
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        header = file.read(26)  # signature, length and name of IHDR, width, height, bits, colour type
    return header[12:16] == b"IHDR" and header[24] == 16 and header[25] != 0

"""The frames of an animation (GIF, PNG, WebP), the pages of a TIFF, and the frames of a video."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, DataWarning
from ..files import did_you_mean_path
from .images import (
    DAMAGED,
    DECODE_ERRORS,
    EXPECTED,
    MAX_PIXELS,
    not_decoded,
    open_picture,
    orientation_of,
    pillow_quiet,
)
from .notes import Notes
from .orientation import upright
from .pixels import to_rgb

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".mts", ".3gp",
)  # fmt: skip

_ADVICE = "expected one of the packages imageio-ffmpeg and opencv-python, which read videos: pip install imageio-ffmpeg"
_WHOLE_VIDEO = "a video that is whole"


def is_video(path: str | Path) -> bool:
    """Say whether a file is called like a video, which Pillow does not read."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def count_frames(path: str | Path, *, content: bytes | None = None) -> int:
    """Return how many frames or pages an image file has: 1 for a photograph, also for one with previews (MPO).

    Parameters
    ----------
    path : path
    content : bytes, optional
        As in `read_image`.

    Raises
    ------
    DataError
        As `read_image`.
    """
    with pillow_quiet(), open_picture(path, EXPECTED, None, content) as picture:
        try:
            return 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
        except DECODE_ERRORS as error:
            raise not_decoded(error, path, None, "an image file") from error


def read_frames(
    path: str | Path, *, step: int = 1, notes: Notes | None = None, content: bytes | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the frames or pages of an image file, each as `read_image` reads a single one.

    Parameters
    ----------
    path : path
    step : int
        Every so many frames, from the first on.
    notes : Notes, optional
        Where remarks are collected; without it each is a `DataWarning`.
    content : bytes, optional
        As in `read_image`.

    Yields
    ------
    number : int
        Of the frame, from 0.
    image : ndarray of shape (H, W, 3), uint8
        RGB, with what lies beneath where a frame holds changes alone.

    Raises
    ------
    DataError
        As `read_image`; of a damaged frame, after those before it.
    """

    def note(kind: str) -> None:
        if notes is not None:
            notes.add(kind, path)
        else:
            warnings.warn(f"{path}: {kind}", DataWarning, stacklevel=2)

    count = count_frames(path, content=content)
    with pillow_quiet() as damage_before:
        opened = open_picture(path, EXPECTED, None, content)
    with opened as picture:
        for number in range(0, count, step):
            try:
                with pillow_quiet() as damage:
                    picture.seek(number)
                    picture.load()
                    width, height = picture.size  # pages of a TIFF may differ
                    if width * height > MAX_PIXELS:
                        raise ValueError(f"it has {width} x {height} pixels")
                    image = upright(to_rgb(picture, note, path, None), orientation_of(picture))
                    if damage or damage_before:
                        note(DAMAGED)
            except DECODE_ERRORS as error:
                raise not_decoded(error, path, f"frame {number}", "an image file") from error
            yield number, image


def read_video(path: str | Path, *, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the frames of a video, by way of whichever package there is that reads videos.

    Parameters
    ----------
    path : path
    step : int
        Every so many frames, from the first on.

    Yields
    ------
    number : int
        Of the frame, from 0.
    image : ndarray of shape (H, W, 3), uint8
        RGB, turned as players turn it.

    Raises
    ------
    DataError
        There is no such package, the file is missing, or it cannot be decoded.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else f"does not exist{did_you_mean_path(path)}"
        raise DataError(what, path=path)
    decoder, package = _decoder()
    if decoder is None:
        raise DataError(f"is a video; {_ADVICE}", path=path)
    number = -1
    try:
        for number, image in enumerate(decoder(package, path)):
            if number % step == 0:
                yield number, image
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise DataError(f"cannot be decoded ({lines[-1]:.200}); expected {_WHOLE_VIDEO}", path=path) from error
    if number < 0:
        raise DataError(f"has no frame that can be decoded; expected {_WHOLE_VIDEO}", path=path)


def _decoder() -> tuple[Callable[[Any, Path], Iterator[np.ndarray]] | None, Any]:
    """Return how videos are read here and the package for it; (None, None) if there is none."""
    for name, decoder in (("imageio_ffmpeg", _by_ffmpeg), ("cv2", _by_opencv)):
        try:
            return decoder, importlib.import_module(name)
        except ImportError:
            continue
    return None, None


def _by_ffmpeg(package: Any, path: Path) -> Iterator[np.ndarray]:
    # A video may name other files and addresses: nothing but files, and an absolute path is no option of ffmpeg
    frames = package.read_frames(str(path.absolute()), input_params=["-protocol_whitelist", "file"])
    try:
        width, height = next(frames)["size"]
        _check_size(width, height)
        for frame in frames:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    finally:
        frames.close()


def _by_opencv(package: Any, path: Path) -> Iterator[np.ndarray]:
    video = package.VideoCapture(str(path.absolute()))
    try:
        while True:
            there, image = video.read()
            if not there:
                return
            _check_size(image.shape[1], image.shape[0])
            yield np.ascontiguousarray(image[:, :, ::-1])  # it has blue first
    finally:
        video.release()


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels")

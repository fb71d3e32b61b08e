"""Tables for statistics: one line for each object, and one for each picture, which ``detect --table`` writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.to_correct import numbered
from ..detections import Detections
from ..errors import UserError
from ..files import open_to_read, prepare_file, write_text

#: of ITU-R BT.601, as in Pillow's mode "L"
_LUMA = np.array([0.299, 0.587, 0.114])
_PICTURE = ("picture", "frame", "name")
_AREA = "area_um2"


class Measured(NamedTuple):
    """One object, in pixels of the picture; its fields are the columns of the table.

    Attributes
    ----------
    number : int
        From 1, best score first: what the object's pixels are in label images, and ``n`` in the JSON.
    class_name : str
    score : float
    y1, x1, y2, x2 : float
        The box, half-open: pixel 0 reaches from 0 to 1.
    pixels : int
        Of its mask, also where a better object lies on top; without a mask branch of its box.
    pixels_of_its_own : int
        Of the label image, in which the better score lies on top where masks overlap.
    centroid_y, centroid_x : float or None
        Of its mask, where the box is: the centre of pixel 0 is at 0.5, as in ImageJ; scikit-image's is less by 0.5.
        None where the mask is empty.
    mean_grey : float or None
        Of the picture as the network gets it (8 bits, 0 .. 255) within the mask: luma, 0.299 red + 0.587 green + 0.114
        blue.
    touches_border : bool
        The mask has a pixel in the first or last row or column, so that the object may go on outside.
    """

    number: int
    class_name: str
    score: float
    y1: float
    x1: float
    y2: float
    x2: float
    pixels: int
    pixels_of_its_own: int
    centroid_y: float | None
    centroid_x: float | None
    mean_grey: float | None
    touches_border: bool


def measured(found: Detections, image: np.ndarray, class_names: Sequence[str]) -> list[Measured]:
    """Measure the objects of one picture.

    Parameters
    ----------
    found : Detections
        D objects, best first.
    image : ndarray of shape (H, W, 3), uint8
        In which they were found.
    class_names : sequence of str
        Background first.

    Returns
    -------
    list of D Measured
        In the same order.
    """
    own = np.bincount(numbered(found).ravel(), minlength=len(found) + 1)[1:]
    objects = []
    for n, mask in enumerate(np.asarray(found.masks)):
        ys, xs = np.nonzero(mask)
        some = len(ys) > 0
        edge = mask[[0, -1]].any() or mask[:, [0, -1]].any() if mask.size else False
        y1, x1, y2, x2 = (round(float(v), 2) for v in found.boxes[n])
        objects.append(
            Measured(
                number=n + 1,
                class_name=class_names[int(found.class_ids[n])],
                score=round(float(found.scores[n]), 5),
                y1=y1, x1=x1, y2=y2, x2=x2,
                pixels=len(ys),
                pixels_of_its_own=int(own[n]),
                centroid_y=round(float(ys.mean()) + 0.5, 2) if some else None,
                centroid_x=round(float(xs.mean()) + 0.5, 2) if some else None,
                mean_grey=round(float((image[ys, xs] @ _LUMA).mean()), 2) if some else None,
                touches_border=bool(edge),
            )
        )  # fmt: skip
    return objects


class ObjectTable:
    """Collects the objects of all pictures for ``FILE.csv``, and their counts for ``FILE-pictures.csv``.

    Both are UTF-8, with a comma between cells, a point in numbers, TRUE or FALSE; R and pandas read them as they are.
    What is not known is an empty cell. A picture without an object is in the second only, with the count 0.

    Parameters
    ----------
    path : path
        Ends in ``.csv``. It is replaced, like the other file, only if it is such a table as it was written.
    pixel_size : float, optional
        Side of a pixel in micrometres: there is a column of areas then, of ``pixels``, in square micrometres.

    Attributes
    ----------
    path, pictures_path : Path

    Raises
    ------
    UserError
        The name does not end in ``.csv``, something else is there, or it cannot be written.
    """

    def __init__(self, path: str | Path, *, pixel_size: float | None = None) -> None:
        self.path, self.pixel_size = Path(path), pixel_size
        if self.path.suffix.lower() != ".csv":
            raise UserError(f"--table {path} is no name of a table; expected one that ends in .csv")
        self.pictures_path = self.path.with_name(f"{self.path.stem}-pictures.csv")
        columns = tuple("class" if name == "class_name" else name for name in Measured._fields)
        objects = (*_PICTURE, *columns)
        pictures = (*_PICTURE, "height", "width", "objects", "pixels_covered", "limit_reached")
        _require_ours(self.path, (objects, (*objects, _AREA)))
        _require_ours(self.pictures_path, (pictures,))
        self._objects: list[Sequence[object]] = [objects if pixel_size is None else (*objects, _AREA)]
        self._pictures: list[Sequence[object]] = [pictures]

    def add(
        self,
        picture: Path,
        name: str,
        objects: Sequence[Measured],
        *,
        size: tuple[int, int],
        frame: int | None = None,
        limit_reached: bool = False,
    ) -> None:
        """Add one picture.

        Parameters
        ----------
        picture : Path
            As it was given.
        name : str
            What is written of it is called so.
        objects : sequence of Measured
        size : tuple of int
            (H, W) in pixels.
        frame : int, optional
            Which one of an animation, a video or a TIFF of several pages, from 0.
        limit_reached : bool
            The network found as many objects as it may: there may be more in the picture.
        """
        which = (picture, frame, name)
        for one in objects:
            row: tuple[object, ...] = (*which, *one)
            if self.pixel_size is not None:
                row = (*row, float(f"{one.pixels * self.pixel_size**2:.6g}"))
            self._objects.append(row)
        covered = sum(one.pixels_of_its_own for one in objects)
        self._pictures.append((*which, *size, len(objects), covered, limit_reached))

    def write(self) -> None:
        """Write both files, each whole, and say so; before, nothing of this detection is in them."""
        write_text(self.path, _as_csv(self._objects))
        write_text(self.pictures_path, _as_csv(self._pictures))
        counts = (len(self._objects) - 1, "object", self.path), (len(self._pictures) - 1, "picture", self.pictures_path)
        said = (f"{count} {what}{'' if count == 1 else 's'} listed in {path}" for count, what, path in counts)
        print(", ".join(said))


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([str(cell).upper() if isinstance(cell, bool) else cell for cell in row] for row in rows)
    return text.getvalue()


def _require_ours(path: Path, heads: Iterable[Sequence[str]]) -> None:
    """Raise ``UserError`` unless a file can be written, and there is none, an empty one, or one that begins so."""
    prepare_file(path)
    try:
        with open_to_read(path) as file:
            begin = file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if begin and not any(begin.startswith(_as_csv([head]).encode()) for head in heads):
        raise UserError(
            f"{path} is there already, and is no table as detect writes it (another program may have saved it); "
            "expected another name"
        )

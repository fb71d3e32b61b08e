"""Published weights: where they are, how to tell that they arrived whole, and their download."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..data.download import ResumingDownloader
from ..errors import UserError, WeightFileError
from ..files import mkdir
from ..tables import text_table

TORCHVISION = "https://download.pytorch.org/models/"
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
COCO_MASKS = f"{DETECTRON2}COCO-InstanceSegmentation/"


@dataclass(frozen=True)
class Published:
    """A file that its authors offer.

    Attributes
    ----------
    url : str
    what : str
        For the list of names.
    checksum : str
        ``"sha256:..."`` or ``"md5:..."``, often only the first digits, which stand in the file's name; empty where
        the authors publish none.
    """

    url: str
    what: str
    checksum: str = ""

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def _torchvision(filename: str, what: str) -> Published:
    """Return one of PyTorch's files, which have 8 digits of their SHA-256 at the end of their names."""
    return Published(TORCHVISION + filename, what, f"sha256:{filename[:-4].rpartition('-')[2]}")


def _detectron2(path: str, what: str) -> Published:
    """Return one of the model zoo's files, which have 6 digits of their MD5 at the end of their names."""
    return Published(COCO_MASKS + path, what, f"md5:{path[:-4].rpartition('_')[2]}")


PUBLISHED: dict[str, Published] = {
    "maskrcnn_resnet50_fpn": _torchvision(
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "torchvision's Mask R-CNN, COCO_V1"
    ),
    "maskrcnn_resnet50_fpn_v2": _torchvision(
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "its second version, COCO_V1"
    ),
    "resnet18": _torchvision("resnet18-f37072fd.pth", "torchvision's ImageNet backbone, IMAGENET1K_V1"),
    "resnet34": _torchvision("resnet34-b627a593.pth", "the same"),
    "resnet50": _torchvision("resnet50-0676ba61.pth", "the same"),
    "resnet101": _torchvision("resnet101-63fe2227.pth", "the same"),
    "resnet152": _torchvision("resnet152-394f9c45.pth", "the same"),
    "resnext50_32x4d": _torchvision("resnext50_32x4d-7cdf4587.pth", "the same"),
    "resnext101_32x8d": _torchvision("resnext101_32x8d-8ba56ff5.pth", "the same"),
    "resnet50_v2": _torchvision("resnet50-11ad3fa6.pth", "torchvision's ImageNet backbone, IMAGENET1K_V2"),
    "resnet101_v2": _torchvision("resnet101-cd907fc2.pth", "the same"),
    "resnet152_v2": _torchvision("resnet152-f82ba261.pth", "the same"),
    "resnext50_32x4d_v2": _torchvision("resnext50_32x4d-1a0047aa.pth", "the same"),
    "resnext101_32x8d_v2": _torchvision("resnext101_32x8d-110c445d.pth", "the same"),
    "mask_rcnn_R_50_FPN_1x": _detectron2(
        "mask_rcnn_R_50_FPN_1x/137260431/model_final_a54504.pkl", "detectron2's Mask R-CNN"
    ),
    "mask_rcnn_R_50_FPN_3x": _detectron2("mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", "the same"),
    "mask_rcnn_R_101_FPN_3x": _detectron2("mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", "the same"),
    "mask_rcnn_X_101_32x8d_FPN_3x": _detectron2(
        "mask_rcnn_X_101_32x8d_FPN_3x/139653917/model_final_2d9806.pkl", "the same"
    ),
    "R-50": Published(f"{DETECTRON2}ImageNetPretrained/MSRA/R-50.pkl", "detectron2's ImageNet backbone"),
    "R-101": Published(f"{DETECTRON2}ImageNetPretrained/MSRA/R-101.pkl", "the same"),
    "X-101-32x8d": Published(f"{DETECTRON2}ImageNetPretrained/FAIR/X-101-32x8d.pkl", "the same"),
    "mask_rcnn_coco": Published(
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5", "matterport's Mask R-CNN"
    ),
    "resnet50_keras": Published(
        "https://github.com/fchollet/deep-learning-models/releases/download/v0.2/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "Keras's ImageNet backbone, with which matterport begins",
        "md5:a268eb855778b3df3c7506639542a6af",
    ),
}


def published(name: str) -> Published:
    """Look a name up; an unknown one is a ``UserError`` that lists the known ones."""
    if name not in PUBLISHED:
        raise UserError(f"no published weights are called {name!r}; expected one of:\n{listing()}")
    return PUBLISHED[name]


def listing() -> str:
    """Return the names with what they stand for, one on a line."""
    rows = []
    for name, file in PUBLISHED.items():
        checked = f"{file.checksum.partition(':')[0]} published" if file.checksum else "no checksum published"
        rows.append((name, f"{file.what} ({checked})"))
    return text_table((), rows, indent="  ")


def download_weights(file: Published, dest: str | Path, *, progress: bool = True, timeout: float = 30.0) -> Path:
    """Download a file, unless it is already there.

    Parameters
    ----------
    file : Published
        From ``published(name)``.
    dest : path
        The folder it goes to, under its own name.
    progress : bool
        Show a progress bar.
    timeout : float
        Seconds without an answer after which the attempt ends.

    Returns
    -------
    Path
        The file, whose checksum was compared with the published one, if there is one.

    Raises
    ------
    WeightFileError
        No network, a cut transfer (the next call continues it), a wrong checksum, a full or unwritable disk.

    Notes
    -----
    The transfer goes to ``NAME.part`` and the whole file to ``NAME.unchecked``; only a checked file gets its name.
    """
    # Imported here: it takes longer to import than the rest of the package.
    import requests

    folder = Path(dest)
    path = folder / file.filename
    unchecked = folder / f"{file.filename}.unchecked"
    try:
        mkdir(folder)
        if path.exists():
            _check(path, file, "it is there already; remove it to download it again")
            return path
        ResumingDownloader(progress, timeout)(file.url, str(unchecked), None)
        try:
            _check(unchecked, file, "the download is thrown away")
        except WeightFileError:
            unchecked.unlink()
            raise
        os.replace(unchecked, path)
    except requests.exceptions.RequestException as error:
        raise WeightFileError(
            f"{file.url} cannot be downloaded ({error}); expected a network connection, or download it by other means: "
            "every command takes a file"
        ) from error
    except OSError as error:
        raise WeightFileError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    import pooch

    return str(pooch.file_hash(str(path), alg="sha256"))


def _check(path: Path, file: Published, consequence: str) -> None:
    """Compare as many digits as are published.

    Parameters
    ----------
    path : Path
    file : Published
    consequence : str
        What follows from a wrong checksum, for the message.
    """
    import pooch

    algorithm, _, expected = file.checksum.partition(":")
    if not expected:
        return
    if not re.fullmatch("[0-9a-f]{6,}", expected):
        raise ValueError(f"checksum {file.checksum!r} of {file.url}")
    found = str(pooch.file_hash(str(path), alg=algorithm))
    if not found.startswith(expected):
        raise WeightFileError(
            f"{path} has the {algorithm} {found}, expected {expected}{'...' if len(expected) < len(found) else ''}: "
            f"{consequence}"
        )

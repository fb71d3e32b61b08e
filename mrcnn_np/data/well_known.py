"""Small data sets that many lessons use, each by its name: downloaded, checked, unpacked, ready for ``--data``."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, did_you_mean
from ..files import write_text
from .download import fetch
from .label_images import LabelImages
from .listed import ListedDataset
from .mask_folders import MaskFolders
from .via import VIA

#: bytes of an archive's files, unpacked, after which it is refused: a small zip can fill a disk
_MOST_BYTES = 4 << 30


class WellKnown(NamedTuple):
    """One data set.

    Attributes
    ----------
    name : str
        What ``data get`` calls it.
    what : str
        In a few words, with its size.
    url : str
        A zip.
    known_hash : str or None
        Its checksum. The places that offer these archives state none, so there is none here either: that of the first
        download is kept beside the data, and every later one is held to it.
    inside : str
        The folder in the zip that is the data set; "" if that is the zip itself.
    folder : str
        What the folder is called here.
    reader : class
        Of its format.
    class_name : str
        What its objects are, which its files do not say.
    terms : str
        Under which it is offered.
    """

    name: str
    what: str
    url: str
    known_hash: str | None
    inside: str
    folder: str
    reader: type[ListedDataset]
    class_name: str
    terms: str


WELL_KNOWN = (
    WellKnown(
        "pennfudan", "pedestrians, 170 photographs, 54 MB",
        "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip", None,
        "PennFudanPed", "PennFudanPed", LabelImages, "pedestrian", "for research, see its readme.txt",
    ),
    WellKnown(
        "balloons", "matterport's balloons, 61 photographs to train and 13 to validate, 39 MB",
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.1/balloon_dataset.zip", None,
        "balloon", "balloon", VIA, "balloon", "photographs from Flickr under Creative Commons",
    ),
    WellKnown(
        "dsb2018", "Data Science Bowl 2018, stage 1: nuclei, 670 images, 83 MB",
        "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip", None,
        "", "dsb2018", MaskFolders, "nucleus", "CC0 (BBBC038v1, Broad Bioimage Benchmark Collection)",
    ),
)  # fmt: skip


def download_set(
    name: str,
    dest: str | Path,
    *,
    url: str | None = None,
    known_hash: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Download and unpack one of ``WELL_KNOWN``, unless it is already there.

    Parameters
    ----------
    name : str
    dest : path
        Where the folder of the data set is to be.
    url : str, optional
        Another place of the same zip.
    known_hash : str, optional
        Its checksum, ``"md5:..."`` or ``"sha256:..."``; by default the one in the table, else that of an earlier
        download, which is kept in ``ARCHIVE.sha256``.
    progress : bool
        Show a progress bar.
    timeout : float
        Seconds without an answer after which the attempt ends.

    Returns
    -------
    root : Path
        The folder, with a ``classes.txt`` that says what its objects are.

    Raises
    ------
    DataError
        There is no set of that name; no network, a cut transfer, a wrong checksum, an archive of other contents, or a
        full or unwritable disk.

    Notes
    -----
    An interrupted transfer is continued by the next call, and only a whole unpacked folder gets its name. An archive
    that cannot be unpacked is removed, so that the next call fetches it anew.
    """
    chosen, dest = by_name(name), Path(dest)
    root = dest / chosen.folder
    if root.is_dir():
        return root
    url = url or chosen.url
    record = dest / (url.rsplit("/", 1)[-1] + ".sha256")
    expected = _checked(known_hash) if known_hash else chosen.known_hash or _recorded(record)
    otherwise = f"or fetch {chosen.url} yourself, and hand --data the zip"
    archive = fetch(url, expected, dest, otherwise=otherwise, progress=progress, timeout=timeout)
    try:
        try:
            _unpack(archive, chosen, root)
        except DataError:
            archive.unlink()
            raise
        if expected is None:
            write_text(record, f"{_sha256(archive)}  {archive.name}\n")  # as sha256sum has it
        archive.unlink()
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error})", path=dest) from error
    return root


def by_name(name: str) -> WellKnown:
    """Return a line of the table; a ``DataError`` lists the names if there is none."""
    for one in WELL_KNOWN:
        if one.name == name:
            return one
    names = [one.name for one in WELL_KNOWN]
    raise DataError(f"unknown data set {name!r}; expected {', '.join(names)}{did_you_mean(name, names)}")


def _checked(known_hash: str) -> str:
    kind, _, digits = known_hash.partition(":")
    length = {"md5": 32, "sha256": 64}.get(kind)
    if length is None or not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits):
        raise DataError(f"checksum {known_hash!r:.90} is none; expected md5: and 32 or sha256: and 64 digits 0 .. f")
    return f"{kind}:{digits.lower()}"


def _recorded(record: Path) -> str | None:
    """Return the checksum of an earlier download."""
    if not os.path.lexists(record):
        return None
    try:
        digits = record.read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"cannot be read ({error}); expected a checksum, or no such file", path=record) from error
    try:
        return _checked(f"sha256:{digits}")
    except DataError as error:
        raise DataError(str(error), path=record) from error


def _sha256(path: Path) -> str:
    import pooch

    return str(pooch.file_hash(str(path), alg="sha256"))


def _unpack(archive: Path, chosen: WellKnown, root: Path) -> None:
    """Unpack into a folder of another name, look at what it is, then give it its name."""
    partial = root.parent / f".{root.name}.partial"
    if partial.is_symlink():
        partial.unlink()
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()  # now, so that nobody else can
    try:
        with zipfile.ZipFile(archive) as file:
            names = [entry for entry in file.infolist() if not entry.filename.startswith("__MACOSX/")]
            size = sum(entry.file_size for entry in names)
            if size > _MOST_BYTES:
                raise DataError(f"has {size} bytes unpacked; expected at most {_MOST_BYTES}", path=archive)
            file.extractall(partial, names)  # it leaves out drives, leading slashes and ".."; links become files
        inside = partial / chosen.inside
        if not inside.is_dir():
            raise DataError(f"does not contain the folder {chosen.inside}", path=archive)
        if chosen.reader.recognise(inside) is None:
            raise DataError(f"does not contain what was expected: {chosen.what}", path=archive)
        write_text(inside / "classes.txt", f"{chosen.class_name}\n")
        inside.rename(root)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"cannot be unpacked ({error}); expected a zip file that is whole", path=archive) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)

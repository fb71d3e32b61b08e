"""Download of archives, Pascal VOC 2012 before all: checked, resumed after an interruption, never half there."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import mkdir, open_own

VOC2012_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC2012_HASH = "md5:6cd6e144f989b92b3379bac3b3de84fd"

_CHUNK = 1 << 16  # what arrived of the last chunk is lost when the connection breaks


def download_voc2012(
    dest: str | Path,
    *,
    url: str = VOC2012_URL,
    known_hash: str = VOC2012_HASH,
    progress: bool = True,
    keep_archive: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Download and unpack VOC 2012 (2 GB), unless it is already there.

    Parameters
    ----------
    dest : path
        Where the folder ``VOCdevkit`` is to be.
    url, known_hash : str
        The archive and its checksum (``"md5:..."`` or ``"sha256:..."``).
    progress : bool
        Show a progress bar.
    keep_archive : bool
        Leave the archive beside the data.
    timeout : float
        Seconds without an answer after which the attempt ends.

    Returns
    -------
    root : Path
        The ``VOCdevkit`` folder: the ``root`` of `VOCDataset`.

    Raises
    ------
    DataError
        No network, a cut transfer, a wrong checksum, an archive of other contents, or a full or unwritable disk.

    Notes
    -----
    The transfer goes to a file ``….part``, which a later call continues. Only a whole file with the right checksum gets
    the archive's name, and only a whole unpacked folder gets the name ``VOC2012``, so an interruption at any moment
    leaves nothing that looks finished.
    """
    dest = Path(dest)
    root = dest / "VOCdevkit"
    if (root / "VOC2012").is_dir():
        return root
    otherwise = "or unpack the archive yourself and set VOC_ROOT to its VOCdevkit folder"
    archive = fetch(url, known_hash, dest, otherwise=otherwise, progress=progress, timeout=timeout)
    try:
        _unpack(archive, dest)
        if not keep_archive:
            archive.unlink()
    except OSError as error:
        raise DataError(f"cannot be written ({error})", path=dest) from error
    return root


def fetch(
    url: str, known_hash: str | None, dest: Path, *, otherwise: str, progress: bool = True, timeout: float = 30.0
) -> Path:
    """Download an archive, or go on with it; of a whole one that is there only the checksum is looked at.

    Parameters
    ----------
    url : str
    known_hash : str or None
        ``"md5:..."`` or ``"sha256:..."``; None if nobody knows it.
    dest : Path
        The folder where it goes, under its own name.
    otherwise : str
        What else the user can do, for the message of a missing network.
    progress, timeout
        As in `download_voc2012`.

    Returns
    -------
    archive : Path

    Raises
    ------
    DataError
        No network, a cut transfer, a wrong checksum, or a full or unwritable disk.
    """
    # Imported here: pooch and requests take longer to import than the rest of the package.
    import pooch
    import requests

    try:
        mkdir(dest)
        downloader = ResumingDownloader(progress, timeout)
        name = url.rsplit("/", 1)[-1]
        return Path(pooch.retrieve(url, known_hash, fname=name, path=dest, downloader=downloader))
    except requests.exceptions.RequestException as error:
        raise DataError(
            f"cannot be downloaded ({error}); expected a network connection; {otherwise}", path=url
        ) from error
    except ValueError as error:  # pooch's way to report a checksum
        raise DataError(f"{error}; expected the checksum {known_hash}", path=url) from error
    except OSError as error:
        raise DataError(f"cannot be written ({error})", path=dest) from error


class ResumingDownloader:
    """A downloader for pooch that continues a ``.part`` file from an earlier, interrupted call."""

    def __init__(self, progress: bool, timeout: float) -> None:
        self.progress, self.timeout = progress, timeout

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Transfer ``url`` to ``output_file``; a transfer that ends too early raises and leaves the ``.part`` file."""
        import requests
        from tqdm import tqdm

        part = Path(output_file).parent / (url.rsplit("/", 1)[-1] + ".part")
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, timeout=self.timeout, headers=headers) as response:
            # 416: there is nothing after the part, it was complete. The checksum decides whether it is right.
            if not (have and response.status_code == 416):
                response.raise_for_status()
                if response.status_code != 206:
                    have = 0  # the server sends the whole file
                # a header that is no number tells nothing; the checksum decides whether all has come
                length = response.headers.get("Content-Length", "")
                total = have + int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else None
                with (
                    open_own(part, keep=have > 0) as file,
                    tqdm(
                        total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not self.progress
                    ) as bar,
                ):
                    for chunk in response.iter_content(_CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
                if total is not None and part.stat().st_size < total:
                    raise requests.exceptions.ConnectionError(
                        f"transfer ended at {part.stat().st_size} of {total} bytes"
                    )
        os.replace(part, output_file)


def _unpack(archive: Path, dest: Path) -> None:
    """Unpack into a folder of another name, then give ``VOC2012`` its name."""
    partial = dest / ".VOC2012.partial"
    if partial.is_symlink():
        partial.unlink()
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()  # now, so that nobody else can
    try:
        with tarfile.open(archive) as tar:
            # The filter refuses absolute paths, "..", links that lead outside, and devices.
            tar.extractall(partial, filter="data")
        folder = partial / "VOCdevkit" / "VOC2012"
        if not (folder / "JPEGImages").is_dir():
            raise DataError("does not contain VOCdevkit/VOC2012/JPEGImages", path=archive)
        (dest / "VOCdevkit").mkdir(exist_ok=True)
        folder.rename(dest / "VOCdevkit" / "VOC2012")
    except tarfile.TarError as error:
        raise DataError(f"cannot be unpacked ({error}); expected VOC's tar archive", path=archive) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)

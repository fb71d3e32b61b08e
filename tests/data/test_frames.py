"""Frames of animations, pages of TIFFs, and videos."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.data import frames as frames_module
from mrcnn_np.data.frames import count_frames, is_video, read_frames, read_video
from mrcnn_np.data.notes import Notes
from mrcnn_np.errors import DataError

LEVELS = (10, 90, 200)


def animation(path, **options):
    """Three frames, each of one grey."""
    first, *others = [Image.fromarray(np.full((12, 16, 3), level, np.uint8)) for level in LEVELS]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_all_frames_of_every_kind(tmp_path, name):
    path = animation(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    content = path.read_bytes()
    for where in ({}, {"content": content}):
        assert count_frames(path, **where) == 3
        read = list(read_frames(path, **where))
        assert [k for k, _ in read] == [0, 1, 2]
        for (_, image), level in zip(read, LEVELS):
            assert image.shape == (12, 16, 3) and image.dtype == np.uint8 and np.abs(image - float(level)).max() <= 2
    assert [k for k, _ in read_frames(path, step=2)] == [0, 2]


def test_pages_of_16_bits_and_of_other_sizes(tmp_path):
    pages = [Image.fromarray(np.full((9, 5 + k), 4095 if k else 100, np.uint16)) for k in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    notes = Notes(quiet=True)
    read = [image for _, image in read_frames(tmp_path / "a.tif", notes=notes)]
    assert [image.shape for image in read] == [(9, 5, 3), (9, 6, 3)] and [int(i.max()) for i in read] == [100, 255]
    assert len(notes.lines()) == 2  # of the dark page and of the bright one


def test_a_photograph_is_one_frame(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    assert count_frames(tmp_path / "a.png") == 1 and len(list(read_frames(tmp_path / "a.png"))) == 1


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.7, 0.9])
def test_a_file_that_is_cut_short(tmp_path, name, keep):
    path = animation(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    try:
        read = list(read_frames(path))
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(read) <= 3


def test_videos_are_known_by_their_names():
    assert is_video("A.MP4") and is_video("x/b.webm") and not is_video("a.gif") and not is_video("mp4")


def test_without_a_package_it_is_said_which(tmp_path, monkeypatch):
    for name in ("imageio_ffmpeg", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.mp4: is a video; expected .*pip install imageio-ffmpeg"):
        next(read_video(tmp_path / "a.mp4"))
    with pytest.raises(DataError, match="does not exist"):
        next(read_video(tmp_path / "b.mp4"))


class Package:
    """A stand-in for both packages: three frames, or what is wrong."""

    CAP = None

    def __init__(self, error=None, size=(16, 12)):
        self.error, self.size, self.closed = error, size, 0

    def read_frames(self, path, input_params):
        assert input_params == ["-protocol_whitelist", "file"]
        yield {"size": self.size}
        for level in LEVELS:
            yield bytes([level]) * 12 * 16 * 3
        if self.error is not None:
            raise self.error

    def VideoCapture(self, path):
        self.left = list(LEVELS)
        return self

    def read(self):
        level = self.left.pop(0) if self.left else None
        return level is not None, np.dstack([np.full((12, 16), level or 0, np.uint8)] * 2 + [np.zeros((12, 16), "u1")])

    def release(self):
        self.closed += 1


def test_frames_come_by_ffmpeg(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Package())
    assert [(k, i.shape, i[0, 0, 0]) for k, i in read_video(tmp_path / "a.mp4", step=2)] == [
        (0, (12, 16, 3), 10), (2, (12, 16, 3), 200),
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Package(OSError("log\nno moov atom\n")))
    with pytest.raises(DataError, match=r"cannot be decoded \(no moov atom\)"):
        list(read_video(tmp_path / "a.mp4"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Package(size=(100_000, 100_000)))
    with pytest.raises(DataError, match="100000 x 100000 pixels"):
        list(read_video(tmp_path / "a.mp4"))


def test_frames_come_by_opencv(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    package = Package()
    monkeypatch.setattr(frames_module, "_decoder", lambda: (frames_module._by_opencv, package))
    read = list(read_video(tmp_path / "a.mp4"))
    assert [image[0, 0].tolist() for _, image in read] == [[0, v, v] for v in LEVELS] and package.closed == 1
    package.VideoCapture = lambda path: package  # nothing is left
    with pytest.raises(DataError, match="no frame that can be decoded"):
        list(read_video(tmp_path / "a.mp4"))


def test_a_video_of_ffmpeg(tmp_path):
    package = pytest.importorskip("imageio_ffmpeg", reason="the package imageio-ffmpeg, which brings ffmpeg")
    path = tmp_path / "a.mp4"
    writer = package.write_frames(str(path), (64, 48), fps=5)
    writer.send(None)
    for k in range(12):
        writer.send(np.full((48, 64, 3), 20 * k, np.uint8))
    writer.close()
    read = list(read_video(path, step=4))
    assert [k for k, _ in read] == [0, 4, 8]
    assert all(image.shape == (48, 64, 3) and abs(image.mean() - 20 * k) < 8 for k, image in read)
    for content in (path.read_bytes()[:500], b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.mp4: cannot be decoded"):
            list(read_video(path))


def test_a_stand_in_for_a_file_in_memory(tmp_path):
    out = io.BytesIO()
    Image.new("L", (4, 3), 7).save(out, "png")
    (read,) = list(read_frames("zip/a.png", content=out.getvalue()))
    assert read[0] == 0 and (read[1] == 7).all()

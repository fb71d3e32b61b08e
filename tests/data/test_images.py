import io
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.data.frames import count_frames, read_frames
from mrcnn_np.data.images import (
    DAMAGED,
    FORMATS,
    exif_orientation,
    image_size,
    read_image,
    read_index_mask,
    read_mask_colours,
    read_silhouette,
)
from mrcnn_np.data.notes import Notes
from mrcnn_np.data.pixels import grey_levels
from mrcnn_np.errors import DataError, DataWarning

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def png_header_only(path, width, height):
    """A PNG of a claimed size without pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_rgb_is_read_as_stored(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    out = read_image(save(tmp_path / "a.png", image))
    assert out.dtype == np.uint8 and out.flags.writeable
    np.testing.assert_array_equal(out, image)


def test_grey_is_repeated_over_the_channels(tmp_path):
    out = read_image(save(tmp_path / "a.png", RAMP))
    np.testing.assert_array_equal(out, np.stack([RAMP] * 3, axis=-1))


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(RAMP > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[:, :, 0], np.where(RAMP > 100, 255, 0))


def test_sixteen_bit_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 128, 129], [25700, 32768, 65407, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        out = read_image(save(tmp_path / name, values))
        np.testing.assert_array_equal(out[:, :, 2], [[0, 1, 0, 1], [100, 128, 255, 255]])


@pytest.mark.parametrize("bits", range(8, 17))
def test_sixteen_bit_is_scaled_by_the_bits_in_use(tmp_path, bits):
    top = (1 << bits) - 1
    values = np.array([[0, top // 2, top]], dtype=np.uint16)
    path = save(tmp_path / "a.png", values)
    if bits == 8:
        out = read_image(path)
    else:
        with pytest.warns(DataWarning, match=r"a\.png: 16-bit grey is divided"):
            out = read_image(path)
    np.testing.assert_array_equal(out[0, :, 0], [0, 127, 255])
    # one more than half of the range in use keeps its brightness, and no image is darker than half
    assert read_image(save(tmp_path / "b.png", np.array([[1 << (bits - 1)]], np.uint16))).max() in (128, 255)


def test_levels_of_grey_round_to_the_nearest():
    for bits in (8, 12, 13, 16):
        top = (1 << bits) - 1
        exact = np.arange(top + 1) * 255 / top
        np.testing.assert_array_equal(grey_levels(top)[: top + 1], np.floor(exact + 0.5))


def test_transparent_pixels_lie_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (255, 0, 51)  # opaque, transparent, a fifth
    out = read_image(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(out[0], [[200, 0, 0], [255, 255, 255], [244, 204, 204]])


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 2)])
def test_alpha_of_zero_everywhere_means_nothing(tmp_path, shape):
    pixels = np.full(shape, 100, np.uint8)
    pixels[..., -1] = 0
    with pytest.warns(DataWarning, match=r"a\.png: alpha is 0 everywhere, so it is ignored"):
        assert (read_image(save(tmp_path / "a.png", pixels)) == 100).all()
    pixels[0, 0, -1] = 255
    with pytest.warns(DataWarning, match=r"b\.png: transparent pixels are laid over white"):
        out = read_image(save(tmp_path / "b.png", pixels))
    assert (out[0, 0] == 100).all() and (out[1] == 255).all()


MODES = {  # Pillow's modes, what one pixel is written as, and what it is read as
    "1": (1, (255, 255, 255)), "L": (90, (90, 90, 90)), "P": (2, (40, 50, 60)), "LA": ((90, 255), (90, 90, 90)),
    "RGB": ((1, 2, 3), (1, 2, 3)), "RGBA": ((1, 2, 3, 255), (1, 2, 3)), "RGBX": ((1, 2, 3, 9), (1, 2, 3)),
    "CMYK": ((0, 255, 255, 0), (255, 0, 0)), "YCbCr": ((128, 128, 128), (128, 128, 128)),
    "LAB": ((255, 128, 128), (255, 255, 255)), "HSV": ((0, 255, 255), (255, 0, 0)), "I": (4095, (255, 255, 255)),
    "I;16": (4095, (255, 255, 255)), "I;16L": (4095, (255, 255, 255)), "I;16B": (4095, (255, 255, 255)),
    "I;16N": (4095, (255, 255, 255)), "F": (1.0, None), "RGBa": ((1, 2, 3, 255), (1, 2, 3)),
    "La": ((90, 255), (90, 90, 90)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", list(FORMATS))
def test_every_mode_of_every_format(tmp_path, mode, kind):
    """Whatever can be written is read as it was, or refused with a message."""
    value, expected = MODES[mode]
    picture = Image.new(mode, (9, 7))
    if mode == "P":
        picture.putpalette([10, 20, 30, 20, 20, 20, 40, 50, 60])
    try:
        picture.paste(value, (0, 0, 9, 7)) if not mode.startswith("I;") else picture.putdata([value] * 63)
        picture.save(tmp_path / "a", format=kind)
    except Exception:  # this format does not have this mode
        return
    with Image.open(tmp_path / "a") as written:
        stored = written.mode
    if mode[0] in "FI" and stored[0] != mode[0]:  # what the writer made of it is not ours
        return
    if stored == "F":
        with pytest.raises(DataError, match="floating-point"):
            read_image(tmp_path / "a")
        return
    out = read_image(tmp_path / "a")
    assert out.shape == (7, 9, 3)
    tolerance = 3 if kind in ("JPEG", "WEBP") or mode == "LAB" else 0
    assert np.abs(out.astype(int) - expected).max() <= tolerance, out[0, 0]


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (50, 100, 150)]
    for name in ("a.gif", "a.png", "a.tif", "a.webp"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if "webp" in name else {})
        )
        with pytest.warns(DataWarning, match="of several frames or pages the first is read"):
            assert (read_image(tmp_path / name) == 50).all()


def test_colours_of_sixteen_bits_are_named(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 4095, 0))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    with pytest.warns(DataWarning, match=r"a\.png: of 16-bit colours the upper 8 bits are read"):
        np.testing.assert_array_equal(read_image(path)[0, 0], [255, 15, 0])


def test_remarks_are_counted_once_for_each_file(tmp_path):
    notes = Notes()
    paths = [save(tmp_path / f"{name}.png", np.full((2, 2), 4095, np.uint16)) for name in "abc"]
    with pytest.warns(DataWarning) as caught:
        for path in [*paths, *paths]:
            read_image(path, notes=notes)
    assert len(caught) == 1
    (line,) = notes.lines()
    assert line.startswith("3 x 16-bit grey") and line.endswith("(such as " + str(paths[0]) + ")")


def test_grey_with_alpha(tmp_path):
    la = np.array([[[100, 255], [100, 0]]], dtype=np.uint8)
    out = read_image(save(tmp_path / "a.png", la))
    np.testing.assert_array_equal(out[0], [[100] * 3, [255] * 3])


def test_palette_and_transparent_palette(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], [[10, 20, 30], [40, 50, 60]])
    picture.save(tmp_path / "b.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[0], [[255, 255, 255], [40, 50, 60]])


def test_cmyk_jpeg(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    cmyk.save(tmp_path / "a.jpg", quality=95)
    out = read_image(tmp_path / "a.jpg").reshape(-1, 3).mean(axis=0)
    assert out[0] > 240 and out[1] < 15 and out[2] < 15


# Where the pixel stored in the top left corner is seen, by EXIF orientation: (row, column), -1 is the last.
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", image, exif=exif)
    out = read_image(path)
    assert out.shape == ((16, 32, 3) if orientation <= 4 else (32, 16, 3))
    row, column = CORNERS[orientation]
    assert out[row, column].min() > 200
    assert (out > 128).mean() == pytest.approx(64 / 512)
    assert exif_orientation(path) == orientation


def test_orientation_of_plain_and_unreadable_files_is_upright(tmp_path):
    assert exif_orientation(save(tmp_path / "a.png", RAMP)) == 1
    assert exif_orientation(tmp_path / "missing.jpg") == 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (50, 5000, 3), (5000, 50, 3)])
def test_extreme_shapes_are_valid(tmp_path, shape):
    assert read_image(save(tmp_path / "a.png", np.zeros(shape, np.uint8))).shape == shape


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", image)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="expected") as caught:
            read_image(path, image_id="a")
        assert str(path) in str(caught.value) and caught.value.image_id == "a"


def test_files_that_are_no_images(tmp_path):
    text = tmp_path / "a.jpg"
    text.write_text("hello")
    for path, message in [(text, "is not an image"), (tmp_path / "b.jpg", "does not exist"), (tmp_path, "is a folder")]:
        with pytest.raises(DataError, match=f"{message}; expected an image"):
            read_image(path)
    text.write_bytes(b"")
    with pytest.raises(DataError, match="is not an image"):
        read_image(text)


@pytest.mark.parametrize("reader", ["open", "load"])
def test_whatever_a_decoder_raises_is_a_data_error(tmp_path, monkeypatch, reader):
    # Pillow's AVIF decoder raises RuntimeError on a damaged file, its DDS decoder NotImplementedError
    def fail(*args, **options):
        raise RuntimeError("Decoding of color planes failed")

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(*((Image, "open") if reader == "open" else (Image.Image, "load")), fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(DataError, match=r"a\.png: cannot be (opened|decoded) \(Decoding"):
        read_image(path)


@pytest.mark.parametrize("side", [10_001, 14_000, 60_000])
def test_claimed_huge_size_is_refused_before_decoding(tmp_path, side):
    with pytest.raises(DataError, match="too large"):
        read_image(png_header_only(tmp_path / "a.png", side, side))


def test_a_name_that_is_too_long_is_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="does not exist; expected an image"):
        read_image(tmp_path / ("x" * 300))


# --- files made to harm ---


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    """An EPS under the name of a photo is drawn by Ghostscript, which Pillow starts, if it is opened at all."""

    def started(*args, **options):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for reader in (read_image, read_index_mask):
        with pytest.raises(DataError, match=r"photo\.jpg: is not an image; expected"):
            reader(path)
    assert exif_orientation(path) == 1


def test_formats_that_are_not_on_the_list_are_not_opened(tmp_path):
    Image.init()
    others = sorted(set(Image.SAVE) - set(FORMATS) - {"MPO", "DIB", "JPEG2000"})
    tried = 0
    for kind in others:
        path, written = (
            tmp_path / f"{kind}.jpg",
            io.BytesIO(),
        )  # not to a path: SPIDER claims its suffix
        try:
            Image.new("RGB", (16, 16)).save(written, format=kind)
        except Exception:  # not a format of pictures, or a program is missing
            continue
        path.write_bytes(written.getvalue())
        tried += 1
        with pytest.raises(DataError, match=r"is not an image; expected"):
            read_image(path)
    assert tried > 5


def test_a_bomb_inside_a_container(tmp_path):
    """An icon file of 98 bytes that claims a JPEG 2000 picture of 10^9 pixels."""
    box = lambda kind, data: struct.pack(">I", 8 + len(data)) + kind + data  # noqa: E731
    header = box(b"ihdr", struct.pack(">IIHBBBB", 31622, 31622, 3, 7, 7, 0, 0))
    jp2 = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", header)
    path = tmp_path / "icon.jpg"
    path.write_bytes(b"icns" + struct.pack(">I", 16 + len(jp2)) + box(b"ic10", jp2))
    with pytest.raises(DataError, match="is not an image"):
        read_image(path)


@pytest.mark.parametrize("error", [Image.DecompressionBombError, MemoryError, TypeError, AttributeError, OverflowError])
@pytest.mark.parametrize("reader", [read_image, read_index_mask])
def test_no_error_of_pillow_passes(tmp_path, monkeypatch, error, reader):
    def fail(*args, **options):
        raise error("as Pillow does")

    path = save(tmp_path / "a.png", RAMP)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", fail)
        with pytest.raises(DataError, match=r"a\.png: (cannot be decoded|needs more memory)"):
            reader(path)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        with pytest.raises(DataError, match=r"a\.png: (cannot be opened|is too large)"):
            reader(path)


def test_a_side_that_is_too_long(tmp_path):
    with pytest.raises(DataError, match=r"is too large \(70000 x 2\); .* no side above 65535"):
        read_image(png_header_only(tmp_path / "a.png", 70_000, 2))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "LA"])
def test_memory_of_a_large_image(tmp_path, mode):
    """36 megapixels: what Pillow holds (4 bytes a pixel), the result (3), and strips, but no further copies."""
    Image.new(
        mode,
        (6000, 6000),
        (5, 6, 7, 0)[: len(Image.new(mode, (1, 1)).getbands())] if len(mode) > 1 and mode != "I;16" else 5,
    ).save(tmp_path / "a.png")
    program = (
        "import resource, sys, warnings; warnings.simplefilter('ignore'); from mrcnn_np.data.images import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read_image(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024  # MiB
    assert grown < 36 * 7 + 60


def test_too_little_memory_is_a_message(tmp_path):
    Image.new("RGB", (9000, 9000)).save(tmp_path / "a.png")
    program = (
        "import resource, sys; from mrcnn_np.data.images import read_image; from mrcnn_np.errors import DataError\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages + (100 << 20),) * 2)\n"
        "try: read_image(sys.argv[1])\n"
        "except DataError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "a.png: needs more memory than there is" in said


def test_float_and_32_bit_values_are_refused(tmp_path):
    with pytest.raises(DataError, match="floating-point"):
        read_image(save(tmp_path / "a.tif", RAMP.astype(np.float32)))
    with pytest.raises(DataError, match=r"values 0 \.\. 70000; expected 8 or 16 bits"):
        read_image(save(tmp_path / "b.tif", np.array([[0, 70000]], dtype=np.int32)))


def test_index_mask_keeps_numbers_of_palette_and_grey_files(tmp_path):
    picture = Image.fromarray(RAMP)
    picture.save(tmp_path / "grey.png")
    picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        np.testing.assert_array_equal(read_index_mask(tmp_path / name), RAMP)


def test_index_mask_refuses_colours_and_broken_files(tmp_path):
    with pytest.raises(DataError, match="mode RGB; expected a palette"):
        read_index_mask(save(tmp_path / "a.png", np.zeros((3, 3, 3), np.uint8)))
    path = save(tmp_path / "b.png", np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_index_mask(path)


# --- what Pillow warns of ---


def _damaged(kind, **options):
    """Yield the bytes of a picture with EXIF data that are cut at many places, and some with a damaged directory."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010E] = 6, "a description that lies elsewhere"
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(values).save(file, kind, exif=exif, **options)
    whole = file.getvalue()
    yield from (whole[:cut] for cut in [*range(1, len(whole), 97), *range(len(whole) - 250, len(whole), 3)])


@pytest.mark.parametrize(
    ("kind", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {}), ("PNG", {}), ("WEBP", {})]
)
def test_no_warning_of_pillow_is_seen(kind, options):
    silhouettes = (read_silhouette, read_index_mask, read_mask_colours, image_size, exif_orientation, count_frames)
    readers = (read_image, lambda path, content: list(read_frames(path, content=content)), *silhouettes)
    refused = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for content in _damaged(kind, **options):
            for reader in readers:
                try:
                    reader("a.tif", content=content)
                except DataError:
                    refused += 1
    assert refused > 0 and {w.category for w in caught} <= {DataWarning}, [str(w.message) for w in caught]


def test_damaged_exif_data_of_a_readable_picture_is_a_note_of_ours(tmp_path):
    entry = struct.pack("<HHII", 0x010E, 2, 400, 26)  # 400 letters that are not there
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    for read in (read_image, lambda path: list(read_frames(path))):
        with pytest.warns(Warning) as caught:
            read(tmp_path / "a.jpg")
        assert [(str(w.message), w.category) for w in caught] == [(f"{tmp_path / 'a.jpg'}: {DAMAGED}", DataWarning)]


def test_a_palette_without_transparent_pixels_is_read_without_a_word(tmp_path, recwarn):
    picture = Image.fromarray(RAMP).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes([255] * 256))
    read_image(tmp_path / "a.png")
    read_mask_colours(tmp_path / "a.png", palette=True)
    assert not recwarn.list

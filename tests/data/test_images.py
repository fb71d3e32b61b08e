import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mrcnn_np.data.images import exif_orientation, read_image, read_index_mask
from mrcnn_np.errors import DataError

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


def test_transparent_pixels_lie_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (255, 0, 51)  # opaque, transparent, a fifth
    out = read_image(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(out[0], [[200, 0, 0], [255, 255, 255], [244, 204, 204]])


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

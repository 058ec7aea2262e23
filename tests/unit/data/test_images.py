import hashlib
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scalegan.data import images
from scalegan.data.images import (
    BadImage,
    decode,
    decode_png,
    encode_png,
    is_gray_by_header,
    is_image,
    load_image,
)
from tests.support.hostile import TIFF_HEADER, png
from tests.support.hostile import encode as encoded

y, x = np.mgrid[:37, :90]
WIDE = np.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x * x // 5 + y * 11) % 256], -1)
WIDE = WIDE.astype(np.uint8)  # (37, 90, 3)
SQUARE = WIDE[:24, :24]


def pixel(image: bytes) -> list[int]:
    """Red, green and blue of the first pixel."""
    return load_image(image, None)[:, 0, 0].tolist()


# Made once by the original's few lines, run with Pillow 12.3 on WIDE: halved to 45x18 before 8.
GOLDEN = {8: "ab6bd65b2f8effe2", 16: "6cbf1cce31a50666", 32: "add06a109ab0d616"}


@pytest.mark.parametrize("side", GOLDEN)
def test_crop_is_adms(side: int) -> None:
    image = load_image(WIDE, side)
    assert image.shape == (3, side, side) and image.flags.c_contiguous
    assert hashlib.sha256(image.tobytes()).hexdigest()[:16] == GOLDEN[side]


def test_crop_offsets_round_down() -> None:
    stripes = np.broadcast_to(np.arange(9, dtype=np.uint8)[None, :] * 10, (4, 9))
    assert load_image(stripes, 4)[0, 0].tolist() == [20, 30, 40, 50]  # (9 - 4) // 2 = 2


def test_halving_averages_boxes() -> None:
    blocks = np.kron(np.array([[0, 100], [200, 40]]), np.ones((2, 2))).astype(np.uint8)
    assert load_image(blocks, 2)[0].tolist() == [[0, 100], [200, 40]]


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    expected = SQUARE.transpose(2, 0, 1)
    assert np.array_equal(load_image(SQUARE, 24), expected)
    assert np.array_equal(load_image(encoded(SQUARE), 24), expected)
    assert np.array_equal(load_image(encoded(SQUARE), None), expected)


def test_gray_array_gets_three_channels() -> None:
    assert load_image(np.full((2, 2), 7, np.uint8), None).tolist() == [[[7, 7], [7, 7]]] * 3


@pytest.mark.parametrize("gray", [True, False])
def test_png_is_exact(gray: bool) -> None:
    array = SQUARE.transpose(2, 0, 1)
    array = np.ascontiguousarray(np.broadcast_to(array[:1], array.shape) if gray else array)
    data = encode_png(array)
    assert decode(data).mode == ("L" if gray else "RGB")
    assert np.array_equal(load_image(data, None), array)


COLORS = {
    "1": (Image.new("1", (2, 2), 1), [255, 255, 255]),
    "L": (Image.new("L", (2, 2), 9), [9, 9, 9]),
    "LA": (Image.new("LA", (2, 2), (0, 0)), [255, 255, 255]),
    "LA half": (Image.new("LA", (2, 2), (0, 128)), [127, 127, 127]),
    "RGBA": (Image.new("RGBA", (2, 2), (200, 0, 100, 255)), [200, 0, 100]),
    "RGBA clear": (Image.new("RGBA", (2, 2), (200, 0, 100, 0)), [255, 255, 255]),
    "I;16": (Image.fromarray(np.full((2, 2), 0x12FF, np.uint16)), [0x12] * 3),
    "I;16 full": (Image.fromarray(np.full((2, 2), 0xFFFF, np.uint16)), [255] * 3),
}


@pytest.mark.parametrize("name", COLORS)
def test_color_rule(name: str) -> None:
    image, expected = COLORS[name]
    assert pixel(encoded(image)) == expected


def test_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 1), 1)
    assert pixel(encoded(image)) == [10, 20, 30]
    for transparency in (0, bytes([0, 255])):
        data = encoded(image, transparency=transparency)
        assert pixel(data) == [255, 255, 255]
        assert load_image(data, None)[:, 1, 1].tolist() == [40, 50, 60]


def test_cmyk() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    assert decode(data).mode == "CMYK"
    assert pixel(data) == pytest.approx([0, 255, 255], abs=2)


def test_16_bit_color_keeps_the_high_byte() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", *[0x10FF, 0x2000, 0x3080] * 2) for _ in range(2))
    assert pixel(png(2, 2, rows, depth=16)) == [0x10, 0x20, 0x30]


def test_a_transparent_gray_of_16_bits_lies_on_white() -> None:
    values = np.array([[0, 0x1234], [0x1200, 0xFF00]], np.uint16)
    found = load_image(encoded(Image.fromarray(values), transparency=0x1234), None)
    assert found[0].tolist() == [[0, 255], [0x12, 255]]
    assert (found == found[:1]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_noted(kind: str) -> None:
    for largest, is_noted in ((4095, True), (4096, False), (0, False)):
        values = np.full((4, 4), largest, np.uint16)
        notes = decode(encoded(Image.fromarray(values), kind)).notes
        expected = [f"16-bit values reach {largest:,} of 65,535 only: it is nearly black"]
        assert notes == (expected if is_noted else [])


def with_text(place: str) -> bytes:
    """A PNG with more text or profile than Pillow unpacks, before or behind the pixels."""
    text = b"workflow\0\0" + zlib.compress(b"a" * 3 * 2**20)
    name = b"iCCP" if place == "profile" else b"zTXt"
    chunk = struct.pack(">I", len(text)) + name + text
    chunk += struct.pack(">I", zlib.crc32(name + text))
    whole = encoded(SQUARE)
    at = whole.index(b"IEND" if place == "behind" else b"IDAT") - 4
    return whole[:at] + chunk + whole[at:]


@pytest.mark.parametrize("place", ["before", "behind", "profile"])
def test_much_text_costs_no_image(place: str) -> None:
    data = with_text(place)
    assert np.array_equal(load_image(data, None), SQUARE.transpose(2, 0, 1))
    assert not is_gray_by_header(data)
    at = data.index(b"workflow")
    with pytest.raises(BadImage, match="cannot be decoded"):
        load_image(data[: at + 20] + b"?" + data[at + 21 :], None)


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\0\0\0\x18ftypheic", "HEIC"), (b"\xff\x0a\xff", "JPEG XL"), (b"8BPS\0\1", "PSD")],
)
def test_kinds_that_are_not_read_are_called_by_their_names(start: bytes, kind: str) -> None:
    with pytest.raises(
        BadImage, match=rf"^is {kind}, which is not read; save it as PNG$"
    ) as caught:
        decode(start + bytes(50))
    assert caught.value.kind == "not an image"


def test_values_without_a_range_are_refused() -> None:
    tiff = encoded(Image.new("F", (2, 2), 0.5), "TIFF")
    with pytest.raises(BadImage, match=r"^has floating-point values"):
        load_image(tiff, None)
    deep = encoded(Image.new("I", (2, 2), 70_000), "TIFF")
    with pytest.raises(BadImage, match=r"^has 32-bit values beyond 0..65535"):
        load_image(deep, None)
    assert pixel(encoded(Image.new("I", (2, 2), 0x4321), "TIFF")) == [0x43] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turn = undo.get(orientation, images.UPRIGHT.get(orientation))  # the others undo themselves
    stored = Image.fromarray(upright)
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    stored = stored.transpose(turn) if turn is not None else stored
    data = encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(np.asarray(decode(data).image)[..., 0], upright)


@pytest.mark.parametrize(
    ("exif", "note"),
    [
        (TIFF_HEADER + b"\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0", "orientation 99"),
        (TIFF_HEADER + b"\0\x09\x01\x12\0\x03\0\0\0\x01\0\x01", "is damaged"),
        (b"Exif\0\0rubbish!", "cannot be read"),
    ],
)  # fmt: skip
def test_broken_exif_makes_a_note(exif: bytes, note: str) -> None:
    decoded = decode(encoded(SQUARE, "JPEG", exif=exif))
    assert decoded.image.size == (24, 24)
    assert len(decoded.notes) == 1 and note in decoded.notes[0]


def test_a_wrong_extension_is_no_matter_and_the_first_frame_counts() -> None:
    frames = [Image.new("L", (2, 2), value) for value in (3, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(data) == [3, 3, 3] and decode(data).format == "GIF"


JPEG, PNG = encoded(SQUARE, "JPEG"), encoded(SQUARE)
FLIPPED = PNG[:-30] + bytes([PNG[-30] ^ 1]) + PNG[-29:]
BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, world\n", "not an image: it begins with b'hello, w'"),
    "html": (b"<html>404</html>", "not an image"),
    "bomb": (png(9_999, 10_002, b""), "is 9999x10002; at most 100,000,000 pixels are decoded"),
    "large bomb": (png(2**31 - 1, 2**31 - 1, b""), "more than 100,000,000 pixels"),
    "short jpeg": (JPEG[: len(JPEG) // 2], "cannot be decoded: "),
    "jpeg header": (JPEG[:20], "cannot be decoded: "),
    "short png": (PNG[: len(PNG) // 2], "cannot be decoded: "),
    "png without its end": (PNG[:-12], "cannot be decoded: "),
    "flipped bit": (FLIPPED, "cannot be decoded: "),
    "png without rows": (png(24, 24, b""), "cannot be decoded: "),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_have_a_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(BadImage) as caught:
        load_image(data, 8)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_bad_arrays() -> None:
    for array in (
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
    ):
        with pytest.raises(BadImage, match="expected uint8"):
            load_image(array, None)
    with pytest.raises(BadImage, match="no pixels"):
        load_image(np.zeros((0, 0), np.uint8), None)


def test_sizes() -> None:
    with pytest.raises(BadImage, match=r"^is 90x37; expected a square, for no size was given$"):
        load_image(WIDE, None)
    with pytest.raises(BadImage, match=r"^is 90x37, smaller than 38; upscaling is not allowed$"):
        load_image(WIDE, 38)
    assert load_image(WIDE, 50, allow_upscaling=True).shape == (3, 50, 50)
    with pytest.raises(BadImage, match=r"^is 60000x1, too long"):
        load_image(np.zeros((1, 60_000), np.uint8), 256, allow_upscaling=True)


def test_images_are_known_by_their_beginning() -> None:
    kinds = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"]
    for kind in [kind for kind in kinds if kind in images.Image.SAVE or Image.init()]:
        if kind in Image.SAVE:
            assert is_image(encoded(SQUARE, kind)[:16]), kind
    assert not any(map(is_image, (b"", b"P", b"P7", b"hello", b"PK\3\4", b"RIFF1234WAVE")))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 24))
def test_crop_always_fits(width: int, height: int, side: int) -> None:
    array = np.zeros((height, width), np.uint8)
    if min(width, height) < side:
        with pytest.raises(BadImage):
            load_image(array, side)
    assert load_image(array, side, allow_upscaling=True).shape == (3, side, side)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([JPEG, PNG, encoded(SQUARE, "GIF"), encoded(SQUARE, "TIFF"),
                        encoded(SQUARE, "WEBP"), encoded(SQUARE, "BMP")]), st.data())  # fmt: skip
def test_damaged_bytes_give_an_image_or_a_reason(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 8)) if damaged else 0):
        damaged[data.draw(st.integers(0, min(len(damaged), 80) - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        assert load_image(bytes(damaged), 8, allow_upscaling=True).shape == (3, 8, 8)
    except BadImage as error:
        assert str(error)


def test_warnings_of_pillow_become_notes_and_are_not_shown() -> None:
    cut = b"Exif\0\0" + TIFF_HEADER + struct.pack("<HHHII", 1, 0x010F, 2, 900, 26) + bytes(4)
    files = [encoded(SQUARE, "JPEG", exif=cut), encoded(SQUARE, "JPEG")]
    before, shown = list(warnings.filters), warnings.showwarning
    assert [decode(files[i % 2]).notes for i in range(4)] == [["EXIF data is damaged"], []] * 2
    assert warnings.filters == before and warnings.showwarning is shown


def test_threads_decode_kept_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filters of warnings belong to the whole process: loader threads leave them alone."""
    array = np.ascontiguousarray(SQUARE.transpose(2, 0, 1))
    data = encode_png(array)
    with monkeypatch.context() as patch:
        patch.setattr(warnings, "catch_warnings", None)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: decode_png(data, 24), range(100)))
    assert all(np.array_equal(image, array) for image in found)
    with pytest.raises(BadImage, match=r"^is 24x24; expected 8x8$"):
        decode_png(data, 8)
    with pytest.raises(BadImage, match=r"^cannot be decoded: "):
        decode_png(FLIPPED, 24)


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", True),
        ("L", "PNG", True),
        ("L", "JPEG", True),
        ("LA", "PNG", True),
        ("I;16", "PNG", True),
        ("P", "PNG", False),
        ("RGB", "PNG", False),
        ("RGBA", "PNG", False),
        ("CMYK", "JPEG", False),
        ("LAB", "TIFF", False),
        ("L", "WEBP", False),  # which knows no gray
    ],
)
def test_a_header_tells_gray_where_it_can(mode: str, kind: str, expected: bool) -> None:
    data = encoded(Image.new(mode, (8, 8)), kind)
    assert is_gray_by_header(data) == expected
    pixels = load_image(data, None)
    assert not expected or (pixels == pixels[:1]).all()


def test_a_header_that_is_damaged_tells_nothing() -> None:
    assert not is_gray_by_header(JPEG[:20])
    assert is_gray_by_header(SQUARE[..., 0]) and not is_gray_by_header(SQUARE)

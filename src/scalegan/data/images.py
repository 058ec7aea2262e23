"""Decoding images into uint8 (3, P, P): within limits, upright, cropped at the center.

The rule for color, so that every image has three channels of eight bits:

- gray (1, L) is repeated three times; a palette (P) is looked up; CMYK, YCbCr, LAB and HSV are
  converted by Pillow's formulas, and embedded color profiles are not applied;
- what is transparent (RGBA, LA, PA, or a transparent color) lies on white;
- of 16-bit values the high byte is kept, also of gray (I;16, I), with a note where all are below
  4096, as of 12-bit cameras; floating-point values (F) have no agreed range and are refused;
- of an animation or a file of several pages the first image counts.

The crop is that of ADM (arXiv 2105.05233; `center_crop_arr` of github.com/openai/guided-diffusion,
image_datasets.py): what DiT, EDM2 and GAT are trained and scored on.

Not found: flipped bits inside the data of a JPEG, which carries no checksum.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scalegan.errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused from their header: a few kilobytes can unfold to gigabytes."""
MAX_BYTES = 256 * 2**20
"""Larger files are refused before they are read."""
# Only these: others are rare, and some run programs on what they read (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG",
    ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".jp2": "JPEG2000",
    ".j2k": "JPEG2000", ".avif": "AVIF",
}  # fmt: skip
MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*",
    b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip
# Images by their content, of kinds that are not read: where it stands, and how the kind is called.
UNREAD_CONTENT = (
    (4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1"), "HEIC"),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL"),
    (0, (b"8BPS",), "PSD"),
    (0, (b"v/1\x01",), "EXR"),
    (0, (b"<svg",), "SVG"),
)
ORIENTATION = 0x0112
UPRIGHT = {  # EXIF orientation -> what turns the image upright (TIFF 6.0, tag 274)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


ProblemKind = Literal[
    "cannot be read",
    "not a file",
    "not an image",
    "cannot be decoded",
    "too large",
    "wrong size",
    "no usable label",
    "used twice",
    "further image",
    "odd",
    "hidden",
    "passed over",
    "other split",
]
"""What problems are grouped by; "odd" is all that does not keep an image from being used, and the
last three are files that were never meant to be images of the source."""


class Problem(NamedTuple):
    """An image or label that is left out or odd, and why."""

    key: str
    reason: str
    kind: ProblemKind


class BadImage(DataError):
    """An image that cannot be used; the message is the reason, without the image's name."""

    def __init__(self, reason: str, kind: ProblemKind = "cannot be decoded") -> None:
        super().__init__(reason)
        self.kind = kind

    def problem(self, key: str) -> Problem:
        """The same about the image of this key."""
        return Problem(key, str(self), self.kind)


class NotSquare(BadImage):
    """An image that would have to be cropped and no size was given."""


class Decoded(NamedTuple):
    """An upright image of mode RGB, and what it was as a file."""

    image: Image.Image
    format: str
    mode: str
    """Pillow's name of the color mode in the file."""
    notes: list[str]
    """What was odd about it and did not matter."""

    def pixels(self, side: int | None = None) -> UInt8[np.ndarray, "3 P P"]:
        """The image as an array, cropped to a side of P if one is given."""
        image = crop(self.image, side) if side else self.image
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def load_image(
    image: bytes | np.ndarray, side: int | None = None, allow_upscaling: bool = False
) -> UInt8[np.ndarray, "3 P P"]:
    """Decode an image and crop its center; one that cannot be used raises `BadImage`.

    Args:
        image: an encoded file, or uint8 (H, W) or (H, W, 3).
        side: P; None or 0: the image must be square and is left as it is.
        allow_upscaling: whether an image whose short side is below `side` is enlarged.
    """
    decoded = decode(image)
    check_size(decoded.image.size, side, allow_upscaling)
    return decoded.pixels(side)


def decode(image: bytes | np.ndarray) -> Decoded:
    """Decode a whole image; its size is checked before any pixel is decoded.

    One thread at a time: Pillow's warnings are caught, and Python's filters of warnings belong to
    the process.

    Raises:
        BadImage: if it is damaged, too large or of a kind that is not read.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not image:
        raise BadImage("the file is empty")
    with warnings.catch_warnings(record=True) as caught, _reasons(image):
        warnings.simplefilter("always")
        return _from_bytes(image, caught)


def is_gray_by_header(image: bytes | np.ndarray) -> bool:
    """Whether an image is gray for certain, from its header; one in RGB may still turn out gray."""
    if isinstance(image, np.ndarray):
        return image.ndim == 2
    try:
        with warnings.catch_warnings(), _reasons(image):
            warnings.simplefilter("ignore")
            mode = _open(image).mode
            return mode in ("1", "L", "LA", "F") or mode.startswith("I")
    except BadImage:
        return False


def crop(image: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve by box averages while twice too large, resize by bicubic, cut the center.

    An image of exactly this size comes back unchanged.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def check_size(size: tuple[int, int], side: int | None, allow_upscaling: bool = False) -> None:
    """Refuse an image of a (width, height) that is too small or, without a side, not square."""
    shape = f"is {size[0]}x{size[1]}"
    if not side:
        if size[0] != size[1]:
            raise NotSquare(f"{shape}; expected a square, for no size was given", "wrong size")
        return
    if min(size) < side and not allow_upscaling:
        raise BadImage(f"{shape}, smaller than {side}; upscaling is not allowed", "wrong size")
    if min(size) < side and side * side * max(size) > MAX_PIXELS * min(size):
        raise BadImage(f"{shape}, too long to enlarge its short side to {side}", "wrong size")


def encode_png(array: UInt8[np.ndarray, "3 P P"]) -> bytes:
    """Encode an image as PNG; one whose three channels are equal is stored with one."""
    is_gray = bool((array == array[:1]).all())
    pixels = array[0] if is_gray else np.ascontiguousarray(array.transpose(1, 2, 0))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def decode_png(data: bytes, side: int) -> UInt8[np.ndarray, "3 P P"]:
    """Decode what `encode_png` made; unlike `decode`, several threads may do so at a time.

    Raises:
        BadImage: if it is damaged or not of this side.
    """
    with _reasons(data):
        image = _open(data, ("PNG",))
        if image.size != (side, side):
            found = f"is {image.width}x{image.height}; expected {side}x{side}"
            raise BadImage(found, "wrong size")
        image.load()
        return Decoded(_to_rgb(image, []), "PNG", image.mode, []).pixels()


def check_bytes(num_bytes: int) -> None:
    """Refuse a file that is too large to be read, by `BadImage`."""
    if num_bytes > MAX_BYTES:
        raise BadImage(f"has {num_bytes:,} bytes; at most {MAX_BYTES:,} are read", "too large")


def is_image(start: bytes) -> bool:
    """Whether a file that begins with these bytes (16 suffice) looks like an image."""
    is_ppm = start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace()
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(MAGIC) or is_ppm or is_webp or start[4:12] == b"ftypavif"


def refuse_unread(start: bytes) -> None:
    """Refuse a file that begins like an image of a kind that is not read, by `BadImage`."""
    for at, marks, kind in UNREAD_CONTENT:
        if start[at:].startswith(marks):
            raise BadImage(f"is {kind}, which is not read; save it as PNG", "not an image")


def _from_array(array: np.ndarray) -> Decoded:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise BadImage(f"is {array.dtype} {array.shape}; expected uint8 (H, W) or (H, W, 3)")
    if not array.size:
        raise BadImage("has no pixels")
    image = Image.fromarray(array)
    return Decoded(image.convert("RGB"), "array", image.mode, [])


@contextmanager
def _reasons(data: bytes) -> Iterator[None]:
    """Turn what Pillow raises on damaged bytes into BadImage."""
    try:
        yield
    except BadImage:
        raise
    except Image.UnidentifiedImageError:
        if is_image(data[:16]):
            raise BadImage("cannot be decoded: its header is damaged") from None
        refuse_unread(data[:32])
        raise BadImage(
            f"not an image: it begins with {bytes(data[:8])!r}", "not an image"
        ) from None
    except Image.DecompressionBombError:
        raise BadImage(f"more than {MAX_PIXELS:,} pixels", "too large") from None
    except Exception as error:  # Pillow's readers raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadImage(f"cannot be decoded: {reason}") from None


def _open(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Read an image's header, and check what decoding does not: its size, and a PNG's checksums."""
    Image.init()
    formats = tuple(name for name in formats if name in Image.OPEN)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        data = _without_text(data)
        image = Image.open(io.BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS:,} pixels are decoded"
        raise BadImage(f"is {width}x{height}; {limit}", "too large")
    if image.format == "PNG":  # decoding looks neither at the checksums nor for the end
        image.verify()
        image = Image.open(io.BytesIO(data), formats=formats)
    return image


def _without_text(data: bytes) -> bytes:
    """A PNG without its text and color profile, which may be larger than Pillow unpacks.

    Damage in what is left out stays damage: a chunk whose checksum is wrong is not left out.
    """
    kept, at = [data[:8]], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4].rjust(4, b"\0"))
        chunk = data[at : at + length + 12]
        is_whole = zlib.crc32(chunk[4:-4]).to_bytes(4) == chunk[-4:]
        if not (is_whole and chunk[4:8] in (b"tEXt", b"zTXt", b"iTXt", b"iCCP")):
            kept.append(chunk)
        at += length + 12
    return b"".join(kept)


def _from_bytes(data: bytes, caught: list[warnings.WarningMessage]) -> Decoded:
    image = _open(data)
    # Some names differ for one thing: a phone's JPEG with a second view inside is an MPO.
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    mode = image.mode
    try:
        image.load()
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        image = _open(_without_text(data))  # text may also follow the pixels
        image.load()
    notes: list[str] = []
    turn = _turn(image, notes, caught)
    image = _to_rgb(image, notes)
    return Decoded(image if turn is None else image.transpose(turn), kind, mode, notes)


def _turn(
    image: Image.Image, notes: list[str], caught: list[warnings.WarningMessage]
) -> Image.Transpose | None:
    """What turns an image upright; damaged EXIF data makes a note and turns nothing."""
    # Not `getexif` at once: after a failure inside `open` it is silent and empty.
    exif, data = Image.Exif(), image.info.get("exif")
    num_before = len(caught)
    try:
        if data:
            exif.load(data)
        else:
            exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
    except Exception:  # as above: any kind of error, and the image itself is whole
        notes.append("EXIF data cannot be read; shown as stored")
        return None
    if len(caught) > num_before:
        notes.append("EXIF data is damaged")
    if orientation not in range(1, 9):
        notes.append(f"EXIF orientation {orientation!r} does not exist; shown as stored")
    return UPRIGHT.get(orientation)


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Apply the rule for color at the head of this file; what is odd becomes a note."""
    if image.mode == "F":
        raise BadImage("has floating-point values, which have no agreed range")
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold no more than 16
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("has 32-bit values beyond 0..65535, which have no agreed range")
        if 0 < (largest := values.max()) < 4096:  # 10 or 12 bits that were not scaled up
            notes.append(f"16-bit values reach {largest:,} of 65,535 only: it is nearly black")
        high = (values >> 8).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            high[values == clear] = 255
        return Image.fromarray(high).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")

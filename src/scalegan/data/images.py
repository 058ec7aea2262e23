"""One encoded image becomes uint8 (3, P, P): decoded within limits, turned upright, cropped.

The rule for color, so that every image has three channels of eight bits:

- gray (1, L) is repeated three times; a palette (P) is looked up; CMYK, YCbCr, LAB and HSV are
  converted by Pillow's formulas, and embedded color profiles are not applied;
- what is transparent (RGBA, LA, PA, or a transparent color) lies on white;
- of 16-bit values the high byte is kept, also of gray (I;16, I); floating-point values (F) have no
  agreed range and are refused;
- of an animation or a file of several pages the first image counts.

The crop is that of ADM (arXiv 2105.05233; `center_crop_arr` of github.com/openai/guided-diffusion,
image_datasets.py): what DiT, EDM2 and GAT are trained and scored on.

Not found: flipped bits inside the data of a JPEG, which carries no checksum.
"""

import io
import threading
import warnings
from typing import Any, NamedTuple

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


class BadImage(DataError):
    """A image that cannot be used; the message is the reason, without the image's name."""


class NotSquare(BadImage):
    """A image that would have to be cropped and no size was given."""


class _Complaints:
    """Counts Pillow's warnings, for each thread its own, instead of showing or raising them.

    `warnings.catch_warnings` swaps the filters of the whole process: threads that decode at a time
    would put back each other's, and leave warnings off for good. So the first that comes swaps
    them, for Pillow's modules alone, and the last that leaves puts them back.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.own = threading.local()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            self.own.count = 0
            if self.inside == 1:
                self.swapped = warnings.catch_warnings()
                self.swapped.__enter__()
                warnings.filterwarnings("always", module=r"PIL\.")
                self.show, warnings.showwarning = warnings.showwarning, self._note

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            del self.own.count
            if self.inside == 0:
                self.swapped.__exit__(None, None, None)

    def count(self) -> int:
        """Warnings of this thread since it came in."""
        found: int = self.own.count
        return found

    def _note(self, *about: Any, **more: Any) -> None:
        if hasattr(self.own, "count"):
            self.own.count += 1
        else:  # of a thread that does not decode
            self.show(*about, **more)


_COMPLAINTS = _Complaints()


class Decoded(NamedTuple):
    """An upright image of mode RGB, and what it was."""

    image: Image.Image
    format: str
    mode: str
    """Pillow's name of the color mode in the file."""
    notes: list[str]
    """What was odd about it and did not matter."""


def load(
    image: bytes | np.ndarray, side: int | None, allow_upscaling: bool = False
) -> UInt8[np.ndarray, "3 P P"]:
    """Decode a image and crop its center.

    Args:
        image: an encoded file, or uint8 (H, W) or (H, W, 3).
        side: P; None: the image must be square and is left as it is.
        allow_upscaling: whether a image whose short side is below `side` is enlarged.

    Raises:
        BadImage: if it cannot be decoded, exceeds the limits, or is too small or not square.
    """
    decoded = decode(image).image
    check_size(decoded.size, side, allow_upscaling)
    decoded = decoded if side is None else crop(decoded, side)
    return np.ascontiguousarray(np.asarray(decoded).transpose(2, 0, 1))


def decode(image: bytes | np.ndarray) -> Decoded:
    """Decode a whole image; its size is looked at before any pixel is.

    Raises:
        BadImage: if it is damaged, too large or of a kind that is not read.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not image:
        raise BadImage("the file is empty")
    with _COMPLAINTS:  # what Pillow warns of becomes a reason or a note
        try:
            return _from_bytes(image)
        except BadImage:
            raise
        except Image.UnidentifiedImageError:
            if is_image(image[:16]):
                raise BadImage("cannot be decoded: its header is damaged") from None
            raise BadImage(f"not a image: it begins with {bytes(image[:8])!r}") from None
        except Image.DecompressionBombError:
            raise BadImage(f"more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # Pillow's readers raise many kinds on damaged bytes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadImage(f"cannot be decoded: {reason}") from None


def crop(image: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve by box averages while twice too large, resize by bicubic, cut the center.

    A image of exactly this size comes back unchanged.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def check_size(size: tuple[int, int], side: int | None, allow_upscaling: bool = False) -> None:
    """Whether a image of this (width, height) can be cropped to a side.

    Raises:
        BadImage: if it is too small, or without a side, not square.
    """
    width, height = size
    if side is None:
        if width != height:
            raise NotSquare(f"is {width}x{height}; expected a square, for no size was given")
        return
    if min(size) < side and not allow_upscaling:
        raise BadImage(f"is {width}x{height}, smaller than {side}; upscaling is not allowed")
    if min(size) < side and side * side * max(size) > MAX_PIXELS * min(size):
        raise BadImage(f"is {width}x{height}, too long to enlarge its short side to {side}")


def encode_png(array: UInt8[np.ndarray, "3 P P"]) -> bytes:
    """The image as PNG; one whose three channels are equal is stored with one."""
    is_gray = bool((array == array[:1]).all())
    pixels = array[0] if is_gray else np.ascontiguousarray(array.transpose(1, 2, 0))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def is_image(start: bytes) -> bool:
    """Whether a file that begins with these bytes (16 suffice) looks like a image."""
    is_ppm = start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace()
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(MAGIC) or is_ppm or is_webp or start[4:12] == b"ftypavif"


def _from_array(array: np.ndarray) -> Decoded:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise BadImage(f"is {array.dtype} {array.shape}; expected uint8 (H, W) or (H, W, 3)")
    if not array.size:
        raise BadImage("has no pixels")
    image = Image.fromarray(array)
    return Decoded(image.convert("RGB"), "array", image.mode, [])


def _from_bytes(data: bytes) -> Decoded:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"is {width}x{height}; at most {MAX_PIXELS:,} pixels are decoded")
    # Some names differ for one thing: a phone's JPEG with a second view inside is an MPO.
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    if kind == "PNG":  # decoding does not look at the checksums, nor for the end
        image.verify()
        image = Image.open(io.BytesIO(data), formats=formats)
    mode = image.mode
    image.load()
    notes: list[str] = []
    turn = _turn(image, notes)
    image = _to_rgb(image)
    return Decoded(image if turn is None else image.transpose(turn), kind, mode, notes)


def _turn(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    """What turns a image upright; damaged EXIF data makes a note and turns nothing."""
    # Not `getexif` at once: after a failure inside `open` it is silent and empty.
    exif, data = Image.Exif(), image.info.get("exif")
    before = _COMPLAINTS.count()
    try:
        if data:
            exif.load(data)
        else:
            exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
    except Exception:  # as above: any kind of error, and the image itself is whole
        notes.append("EXIF data cannot be read; shown as stored")
        return None
    if _COMPLAINTS.count() > before:
        notes.append("EXIF data is damaged")
    if orientation not in range(1, 9):
        notes.append(f"EXIF orientation {orientation!r} does not exist; shown as stored")
    return UPRIGHT.get(orientation)


def _to_rgb(image: Image.Image) -> Image.Image:
    """The rule for color at the head of this file."""
    if image.mode == "F":
        raise BadImage("has floating-point values, which have no agreed range")
    if image.mode.startswith("I"):  # 16 bits, or 32 that hold no more than 16
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("has 32-bit values beyond 0..65535, which have no agreed range")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")

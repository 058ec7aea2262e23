"""Good, odd and hostile images, for tests of what reads them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

TIFF_HEADER = b"Exif\0\0MM\0*\0\0\0\x08"


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    out = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(out, format=kind, **options)
    return out.getvalue()


def png(width: int, height: int, rows: bytes, depth: int = 8) -> bytes:
    """An RGB PNG from raw rows, which need not fit its header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        digest = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + digest

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def noise(seed: int, height: int = 24, width: int = 24) -> np.ndarray:
    """An image of its own for every seed, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def good(seed: int) -> tuple[str, bytes]:
    """(file name, content) of an image that must be accepted; kinds take turns."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(16, 40, 2))
    array = noise(seed, height, width)
    image = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = seed % 8 + 1
    palette = image.quantize(16)
    kinds = [
        (".jpg", encode(image, "JPEG")),
        (".png", encode(image)),
        (".JPEG", encode(image, "JPEG", exif=exif)),
        (".webp", encode(image, "WEBP")),
        (".png", encode(array[..., 0])),
        (".png", encode(image.convert("RGBA"))),
        (".png", encode(image.convert("LA"))),
        (".png", encode(palette, transparency=3)),
        (".png", encode(palette, transparency=bytes([0, 128, 255]))),
        (".jpg", encode(image.convert("CMYK"), "JPEG")),
        (".png", encode(array[..., 0].astype(np.uint16) * 257)),
        (".png", png(width, height, b"".join(
            b"\0" + rng.bytes(6 * width) for _ in range(height)), depth=16)),
        (".gif", encode(palette, "GIF")),
        (".tif", encode(image, "TIFF", compression="tiff_lzw")),
        (".bmp", encode(image, "BMP")),
        (".ppm", encode(image, "PPM")),
        (".png", encode(Image.fromarray(array[..., 0] > 99))),
    ]  # fmt: skip
    suffix, data = kinds[seed % len(kinds)]
    names = [f"{seed:05d}", f"with blank {seed}", f"émoji-\U0001f600-{seed}", f"-rf {seed}",
             f"line\nbreak {seed}", f"back\\slash {seed}", f"{seed}" + "x" * 200,
             f"semi;colon'quote\"{seed}", f"%s%n{seed}", f"{seed}.tar",
             os.fsdecode(b"\xff\xfe%d" % seed)]  # fmt: skip
    return names[seed // 3 % len(names)] + suffix, data


def odd(seed: int) -> tuple[str, bytes]:
    """Like `good`, with something that deserves a note but no blame."""
    image = Image.fromarray(noise(seed))
    cut = TIFF_HEADER + b"\0\x09\x01\x12\0\x03\0\0\0\x01\0\x01"
    kinds = [
        (".png", encode(image, "JPEG")),
        (".jpg", encode(image)),
        (".jpg", encode(image, "JPEG", exif=b"Exif\0\0rubbish!")),
        (".jpg", encode(image, "JPEG", exif=cut)),
    ]  # fmt: skip
    suffix, data = kinds[seed % len(kinds)]
    return f"odd {seed}{suffix}", data


def bad(seed: int) -> tuple[str, bytes]:
    """(file name, content) of an image that must be refused; kinds take turns."""
    rng = np.random.default_rng(seed)
    array = noise(seed)
    jpeg, whole = encode(array, "JPEG"), encode(array)
    at = int(rng.integers(60, len(whole) - 20))
    flipped = whole[:at] + bytes([whole[at] ^ 1 << seed % 8]) + whole[at + 1 :]
    kinds = [
        (".jpg", jpeg[: int(rng.integers(1, len(jpeg) - 40))]),
        (".png", whole[: int(rng.integers(1, len(whole) - 4))]),
        (".png", b""),
        (".jpg", b"this is not a image\n"),
        (".png", b"<html><body>404 not found</body></html>"),
        (".png", flipped),
        (".png", png(60_000, 60_000, b"")),
        (".png", png(2**31 - 1, 2**31 - 1, b"\0" * 100)),
        (".png", png(24, 24, b"\0" * 30)),
        (".bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 40_000, 40_000, 1, 24,
                                     0, 0, 0, 0, 0, 0)),
        (".gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c"
                 + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\0;"),
        (".tif", encode(array, "TIFF")[:100]),
        (".webp", encode(array, "WEBP")[:60]),
        (".tif", encode(array[..., 0].astype(np.float32), "TIFF")),
        (".jpg", bytes(rng.integers(0, 256, 500, dtype=np.uint8))),
        (".png", b"\0" * 4096),
        (".jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
        (".png", encode(noise(seed, 3, 3))),  # smaller than what is asked for
        (".heic", b"\0\0\0\x18ftypheic"),
    ]  # fmt: skip
    suffix, data = kinds[seed % len(kinds)]
    return f"bad {seed}{suffix}", data


def write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)

"""Picture files before they are decoded: Pillow made quiet, and the size that the header tells."""

from __future__ import annotations

import io
import re
import threading
import warnings
from typing import Any

from headstart.errors import MissingExtraError
from headstart.modalities.files import file_of

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
)  # what a stranger may send; others start programs, or parse long
_ORIENTATION, _ON_ITS_SIDE = 0x0112, range(5, 9)  # the EXIF tag, and its values that swap width and height
_WIDTH, _HEIGHT = 256, 257  # TIFF tags
_quiet_lock = threading.Lock()
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def pillow() -> Any:
    """`PIL.Image`, its warnings (large picture, odd EXIF) ignored from here on: `examine` says what matters.

    A filter rather than `warnings.catch_warnings`, which is not safe in threads.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtraError("PIL", "image") from error
    with _quiet_lock:
        if _QUIET not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")
    return PIL.Image


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header tells, without decoding; None where these bytes are no picture in `FORMATS`."""
    pil = pillow()
    try:
        with pil.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture.size
    except pil.DecompressionBombError:
        return size_of_bomb(data)
    except Exception:  # decoders raise nearly anything on damaged data
        return None


def size_of_bomb(data: bytes) -> tuple[int, int]:
    """(width, height) of a picture that `Image.open` refuses for its size, from the header."""
    for factory, accepts in pillow().OPEN.values():
        if accepts is None or accepts(data[:16]) is True:
            try:
                return factory(io.BytesIO(data), "").size
            except Exception:  # the next format may fit
                continue
    return 0, 0


def upright_size(item: Any) -> tuple[int, int] | None:
    """(width, height) of a stored item turned as its EXIF orientation says, without decoding; None where unreadable."""
    pil = pillow()
    try:
        file = file_of(item)
        with pil.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            # A PNG's own `getexif` decodes the whole picture, for a block that may stand behind the pixels.
            turned = pil.Image.getexif(picture).get(_ORIENTATION) in _ON_ITS_SIDE
            tags = getattr(picture, "tag_v2", {})  # of a TIFF, whose `size` Pillow turns in some versions
            width, height = tags.get(_WIDTH, picture.size[0]), tags.get(_HEIGHT, picture.size[1])
            return (height, width) if turned else (width, height)
    except Exception:  # decoders raise nearly anything on damaged data
        return None

"""Pictures: a file that Pillow reads, or encoded bytes; HOG (Dalal and Triggs 2005) is their classical rival."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headstart.errors import DataError, MissingExtraError
from headstart.modalities.base import ClassicalFeatures, Examined, Modality, Preview
from headstart.modalities.classical import Standardised
from headstart.modalities.files import Stored, arrow_feature, bytes_of, is_sound, kind_of, missing, no_file, stored
from headstart.modalities.headers import pillow, size_of_bomb, upright_size

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PREVIEW_PIXELS = 160
_CLASSICAL_PIXELS = 64
_DEEP_MODES = ("I", "F")  # more than 8 bits a pixel: "I", "I;16", "I;16B", "F"


class Image(Modality):
    """A stored item is {"path": str or None, "bytes": encoded file or None}; bytes win where both are there."""

    noun: ClassVar = ("image", "images")
    suffixes: ClassVar = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
    column_names: ClassVar = (
        "image",
        "img",
        "file",
        "filename",
        "file_name",
        "path",
        "image_path",
        "filepath",
        "picture",
        "photo",
    )
    default_backbone: ClassVar = "efficientnet-lite0"
    augments: ClassVar = True

    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """Mostly PIL images, arrays of two or three axes, image structs, or names of picture files."""
        values = [value for value in values if not missing(value)]
        return bool(values) and sum(map(self._is_image, values)) >= 0.9 * len(values)

    def _is_image(self, value: Any) -> bool:
        if isinstance(value, (str, PurePath)):
            return PurePath(value).suffix.lower() in self.suffixes
        if isinstance(value, dict):
            return bool(value) and set(value) <= {"path", "bytes"} and not is_sound(value)
        return _is_pil(value) or (isinstance(value, np.ndarray) and value.ndim in (2, 3))

    def store(self, value: Any, folder: str | None) -> Stored:
        """File name, encoded bytes, PIL image, array or {"path", "bytes"}; arrays and PIL images become PNG bytes.

        Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, float in 0 … 1, bool, or grey integers of any
        range, which is then stretched over 8 bits. DataError for anything else.
        """
        if (known := stored(value, folder)) is not None:
            return known
        if isinstance(value, np.ndarray):
            return {"path": None, "bytes": _png(pillow().fromarray(_pixels_of(value)))}
        if _is_pil(value):
            return _store_pil(value)
        raise DataError(
            f"A picture is a file name, the bytes of a file, a PIL image or a NumPy array; this is a "
            f"{type(value).__name__}."
        )

    def arrow_feature(self) -> Any:
        """A struct of path and bytes."""
        return arrow_feature()

    def example(self) -> np.ndarray:
        """A grey square."""
        return np.full((64, 64, 3), 128, dtype=np.uint8)

    def examine(self, item: Any) -> Examined:
        """The digest is that of the file's bytes. The picture is decoded whole, as `open` would."""
        try:
            data = bytes_of(item)
        except (OSError, ValueError) as error:
            return Examined("", no_file(error))
        digest = hashlib.sha256(data).hexdigest()
        if not data:
            return Examined(digest, "empty file")
        return Examined(digest, _problem(data))

    def open(self, item: Any, detail: int | None = None) -> Picture:
        """Upright RGB picture on white; the first frame. A JPEG may be reduced, the shorter side still >= `detail`."""
        return _decoded(bytes_of(item), detail)

    def size(self, item: Any) -> tuple[int, int] | None:
        """(width, height) in pixels of the upright picture, as `open` gives it, from its header; None if unreadable."""
        return upright_size(item)

    def classical_item(self, item: Any) -> Picture:
        """The picture as 64 × 64 grey pixels, all that `classical_features` look at."""
        return self.open(item, _CLASSICAL_PIXELS).convert("L").resize((_CLASSICAL_PIXELS,) * 2, pillow().Resampling.BOX)

    def augment(self, item: Picture, rng: np.random.Generator) -> Picture:
        """Cropped, perhaps mirrored, in other colours, and changed by one operation more; RGB of the same size."""
        from headstart.modalities.augment import augmented

        return augmented(item, rng)

    def preview(self, item: Any) -> Preview:
        """A JPEG of at most 160 pixels a side, as a `data:` URI."""
        return Preview(image_uri="data:image/jpeg;base64," + base64.b64encode(self._thumbnail(item)).decode())

    def small(self, item: Any) -> Stored:
        """The same path, with a JPEG of at most 160 pixels a side; as it is where the file cannot be read."""
        if self.examine(item).problem:
            return item
        return {"path": item["path"], "bytes": self._thumbnail(item)}

    def _thumbnail(self, item: Any) -> bytes:
        picture = self.open(item, detail=_PREVIEW_PIXELS)
        picture.thumbnail((_PREVIEW_PIXELS, _PREVIEW_PIXELS))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        return file.getvalue()

    def describe(self, item: Any) -> str:
        """The path, where there is one."""
        return (item.get("path") if isinstance(item, dict) else None) or "image in memory"

    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """Histograms of oriented gradients, and small grey pixels."""
        return [Standardised("HOG", _hog), Standardised("small pixels", _small_pixels)]


def _is_pil(value: Any) -> bool:
    """Whether it is a PIL image, asked without importing PIL."""
    return any(cls.__module__ == "PIL.Image" for cls in type(value).__mro__)


def _problem(data: bytes) -> str | None:
    """Why these bytes are no usable picture. The header is judged before anything is decoded."""
    pil = pillow()
    try:
        # The whole stream of a JPEG is read at any scale, so the smallest one finds all damage.
        _decoded(data, detail=1)
    except pil.DecompressionBombError:
        width, height = size_of_bomb(data)
        return f"{width:,} × {height:,} pixels is more than the 179 megapixels allowed"
    except pil.UnidentifiedImageError:
        kind = kind_of(data[:512])
        return "not a picture that Pillow can read" + (f": it is {kind}" if kind else "")
    except Exception as error:  # decoders raise nearly anything on damaged data
        return f"truncated or damaged: {error}"
    return None


def _decoded(data: bytes, detail: int | None) -> Picture:
    with pillow().open(io.BytesIO(data)) as picture:
        if detail is not None:
            picture.draft(None, (detail, detail))  # only JPEG does anything
        picture.load()
        return _rgb(_upright(picture))


def _upright(picture: Picture) -> Picture:
    """Turned as its EXIF orientation says; a broken EXIF block is no reason to lose the picture."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture


def _rgb(picture: Picture) -> Picture:
    """Any mode as RGB: transparency on white, deep grey stretched to 8 bits."""
    if picture.mode.startswith(_DEEP_MODES):
        return pillow().fromarray(_stretched(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        paper = pillow().new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return paper.convert("RGB")
    return picture.convert("RGB")


def _store_pil(picture: Picture) -> Stored:
    try:
        keeps = ("1", "L", "LA", "P", "RGB", "RGBA")
        upright = _upright(picture)
        return {"path": None, "bytes": _png(upright if upright.mode in keeps else _rgb(upright))}
    except (OSError, SyntaxError, ValueError):  # opened lazily and damaged: left to `examine`, which says what is wrong
        return {"path": str(getattr(picture, "filename", "")) or None, "bytes": None}


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _stretched(array: np.ndarray) -> np.ndarray:
    """Grey numbers of any range as uint8: 0 … 255 stays, anything else is spread from its minimum to its maximum."""
    if array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind != "f" and low >= 0 and high <= 255:
        return array.astype(np.uint8)
    if high == low:
        return np.zeros(array.shape, np.uint8)
    return np.rint((array.astype(np.float64) - low) * (255.0 / (high - low))).astype(np.uint8)


def _pixels_of(array: np.ndarray) -> np.ndarray:
    """A user's array as uint8 (H, W), (H, W, 3) or (H, W, 4). DataError when it cannot be a picture."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise DataError(
            f"An array of shape {array.shape} is no picture. Allowed are (H, W), (H, W, 1), (H, W, 3) and (H, W, 4)."
            + (" Put the channels last: array.transpose(1, 2, 0)." if array.ndim == 3 else "")
        )
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise DataError(f"An array of {array.dtype} is no picture. Give uint8, or floats from 0 to 1.")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise DataError(
                f"The array holds floats from {low:g} to {high:g}; a picture of floats goes from 0 to 1. "
                "Divide it by its largest value, or give uint8 from 0 to 255."
            )
        return np.rint(array * 255).astype(np.uint8)
    if array.ndim == 3 and not (low >= 0 and high <= 255):
        raise DataError(f"The colour array holds {array.dtype} from {low} to {high}. Give uint8 from 0 to 255.")
    return _stretched(array)


def _grey(pictures: Sequence[Picture], side: int) -> np.ndarray:
    """(N, side, side) float32 in 0 … 1."""
    box = pillow().Resampling.BOX
    small = [np.asarray(picture.convert("L").resize((side, side), box)) for picture in pictures]
    return np.asarray(small, dtype=np.float32) / 255


def _small_pixels(pictures: Sequence[Picture]) -> np.ndarray:
    """(N, 1024): 32 × 32 grey pixels."""
    return _grey(pictures, 32).reshape(len(pictures), -1)


def _hog(pictures: Sequence[Picture]) -> np.ndarray:
    """(N, 1764): 9 orientations, cells of 8 × 8 and blocks of 2 × 2 cells on 64 × 64 grey pixels."""
    try:
        from skimage.feature import hog
    except ImportError as error:
        raise MissingExtraError("skimage", "image") from error
    return np.asarray(
        [hog(grey, cells_per_block=(2, 2)) for grey in _grey(pictures, _CLASSICAL_PIXELS)], dtype=np.float32
    )

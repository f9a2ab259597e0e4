"""A picture file as pixels: what it is, not what its name says; nothing clipped, hidden or turned without a word."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosbd.errors import UsageError
from neurosbd.files.writing import regular

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # of Pillow; others start other programs or libraries
LARGEST_SIDE = 1024  # pixels; larger pictures are not what these networks are for
_DIM = 1 << 14  # of 16 bits; pictures that stay below use less than 64 of 256 grey levels

# What the tag Orientation of EXIF asks for: which way up a camera was held.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass
class Seen:
    """What was met while reading pictures.

    counts: pictures of each kind.
    brightest: value of pictures with 16 bits; none if there are none.
    """

    counts: Counter[str] = field(default_factory=Counter)
    brightest: int | None = None

    def remarks(self, total: int) -> list[str]:
        """A sentence about everything that was done to some of `total` pictures."""
        said = {
            "transparent": "transparent pixels are laid on white",
            "animated": "animated, the first frame is read",
            "swapped": "the two bytes of a value are in the wrong order for PGM or PPM and read swapped",
            "print": "colours of print (CMYK) are converted without their colour profile",
        }
        found = [f"{self.counts[kind]} of {total} pictures: {text}" for kind, text in said.items() if self.counts[kind]]
        if self.brightest is not None and self.brightest < _DIM:
            found.append(
                f"the brightest value of the pictures with 16 bits is {self.brightest} of 65535, so that at most "
                f"{round(self.brightest / 257) + 1} of 256 grey levels are in use; if the camera has fewer bits, save "
                f"them with their values multiplied"
            )
        elif self.counts["deep"]:
            found.append(
                f"{self.counts['deep']} of {total} pictures: of more than 8 bits to a value 8 are kept; features in an "
                f".npz keep all"
            )
        return found


def read_pictures(paths: Sequence[Path], grey: bool, seen: Seen) -> np.ndarray:
    """Pictures as uint8 [N, height, width, channels]; all must have the size of the first.

    Raises:
        UsageError: if one is of another size or format, larger than the limit, damaged, or no plain file.
    """
    from PIL import Image

    if not paths:
        return np.empty((0, 1, 1, 1 if grey else 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such sizes are refused here
        first = _pixels(paths[0], grey, Seen())
        try:
            images = np.empty((len(paths), *first.shape), np.uint8)
        except MemoryError:
            raise UsageError(
                f"{paths[0].parent}: {len(paths):,} pictures of {first.shape[1]}x{first.shape[0]} pixels do not fit "
                f"into memory; scale them down"
            ) from None
        for i, path in enumerate(paths):
            picture = _pixels(path, grey, seen)
            if picture.shape != first.shape:
                raise UsageError(
                    f"{path}: is {picture.shape[1]}x{picture.shape[0]}, but {paths[0]} is "
                    f"{first.shape[1]}x{first.shape[0]}; all pictures of a set must have one size: scale or crop them "
                    f"first, nothing is done to them here"
                )
            images[i] = picture
    return images


def _pixels(path: Path, grey: bool, seen: Seen) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    regular(path)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if max(picture.size) > LARGEST_SIDE:
                raise _too_large(path, f"{picture.size[0]}x{picture.size[1]}")
            # Of colours in 16 bits Pillow hands out the higher 8; its plan of decoding says so, and is gone afterwards.
            colours = picture.format == "PNG" and picture.mode in ("RGB", "RGBA")
            seen.counts["deep"] += colours and ";16" in str(picture.tile)
            upright = _UPRIGHT.get(picture.getexif().get(0x0112, 1), np.asarray)
            return upright(_decoded(picture, path, grey, seen))
    except UsageError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, "hundreds of millions of") from None
    except UnidentifiedImageError:
        raise UsageError(
            f"{path}: its content is no picture of {', '.join(FORMATS)} (with PGM and PBM), whatever its name says; "
            f"convert it, or take it out"
        ) from None
    except Exception as problem:  # whatever a decoder makes of a damaged file
        raise UsageError(f"{path}: truncated or corrupt picture ({problem or type(problem).__name__})") from None


def _too_large(path: Path, pixels: str) -> UsageError:
    return UsageError(f"{path}: {pixels} pixels; the limit is {LARGEST_SIDE}x{LARGEST_SIDE}; scale it down")


def _decoded(file: "ImageFile", path: Path, grey: bool, seen: Seen) -> np.ndarray:
    """The first frame in 8 bits, opaque, in one or three channels."""
    several = getattr(file, "is_animated", False) and file.format in ("PNG", "WEBP")  # in a JPEG they are previews
    seen.counts["animated"] += int(several)
    seen.counts["print"] += file.mode == "CMYK"
    if file.mode == "F":
        raise UsageError(
            f"{path}: holds floating-point values, which say nothing about what is white; save it with 8 or 16 bits"
        )
    picture: Image = file
    if file.format == "PPM" and file.tile and file.tile[0][0] == "ppm":
        picture = _scaled(file, path, seen)
    elif file.mode == "I" or file.mode.startswith("I;16"):
        picture = _eight_bits(file, seen)
    elif file.has_transparency_data:
        picture = _on_white(file, seen)
    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _scaled(picture: "ImageFile", path: Path, seen: Seen) -> "Image":
    """PGM and PPM of any white, 4095 say: two bytes per value, the high one first, as their definition has it."""
    from PIL import Image

    start, white = picture.tile[0][2], picture.tile[0][3]
    white = white[1] if isinstance(white, tuple) and isinstance(white[1], int) else 255
    shape = (picture.height, picture.width, *([3] if picture.mode == "RGB" else []))
    content = path.read_bytes()
    values = np.frombuffer(content, ">u2" if white > 255 else "u1", int(np.prod(shape)), start).reshape(shape)
    if values.max() > white:
        values = values.byteswap()
        seen.counts["swapped"] += 1
    if values.max() > white:
        raise UsageError(f"{path}: has values up to {values.max()}, but says that white is {white}; save it again")
    scaled = np.rint(values * (255 / white))
    seen.counts["deep"] += bool((np.rint(scaled * (white / 255)) != values).any())  # they would not come back
    return Image.fromarray(scaled.astype(np.uint8))


def _eight_bits(picture: "Image", seen: Seen) -> "Image":
    """Of 65,535 for white, scaled: a plain conversion cuts at 255."""
    from PIL import Image

    values = np.asarray(picture).astype(np.int64).clip(0, 65535)
    seen.brightest = max(seen.brightest or 0, int(values.max()))
    seen.counts["deep"] += bool((values % 257).any())
    clear = values == picture.info.get("transparency", -1)
    seen.counts["transparent"] += bool(clear.any())
    return Image.fromarray(np.where(clear, 255, (values + 128) // 257).astype(np.uint8))


def _on_white(picture: "Image", seen: Seen) -> "Image":
    """What lies under transparent pixels is left over from editing, and is not what anybody sees."""
    from PIL import Image

    layer = picture.convert("RGBA")
    seen.counts["transparent"] += int(np.asarray(layer)[..., 3].min() < 255)
    paper = Image.new("RGBA", layer.size, "white")
    paper.alpha_composite(layer)
    return paper

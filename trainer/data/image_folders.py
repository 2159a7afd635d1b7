"""Folders of images as data: one sub-folder a class, or parts that hold such sub-folders."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .dataset import DataError, Samples, Source
from .images import read_grey

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_READ = (
    ".png .apng .jpg .jpeg .jpe .jfif .mpo .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .tga"
    " .ico"
)
_UNREAD = ".heic .heif .avif .jp2 .jxl .svg .eps .psd .dng"  # a line says that they are left out
_SUFFIXES = frozenset(f"{_READ} {_UNREAD}".split())
_COUNTED = 1000  # images that are looked at before sizes are told, where there are several
_SIZES_SHOWN = 3
_ANY_SIZE = (28, 28)  # what is proposed where no size is usual


def visible(folder: Path) -> list[Path]:
    """Return what a folder holds, by name, without what systems and archives put in unasked."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name != "__MACOSX"
    )


def is_class(folder: Path) -> bool:
    """Whether a folder's images are those of one class, not those of classes in its sub-folders."""
    entries = visible(folder)
    images = [entry for entry in entries if is_image(entry) and not entry.is_dir()]
    has_folders = any(entry.is_dir() for entry in entries)
    return bool(images) and (not has_folders or any(image.suffix for image in images))


def read_folder(folder: Path) -> Source:
    """Read a folder with one sub-folder of equally large images a class, or parts of such.

    Parts are named train, valid and test or the like; valid and test may be missing. The labels
    are the names of the sub-folders. Hidden files and files of other kinds are passed over, images
    that cannot be read are left out, as the note says. The order is shuffled with a fixed seed:
    class by class, a network trained in file order would forget all but the last.
    """
    found = _Found(folder)
    read = {part: _read_classes(place, found) for part, place in _parts(folder).items()}
    if len(found.sizes) > 1:
        raise found.mixed_sizes()
    parts = {part: _shuffled(*samples) for part, samples in read.items()}
    return Source(
        folder.name,
        "images",
        str(folder),
        parts["train"],
        parts.get("test"),
        validation=parts.get("validation"),
        image_shape=next(iter(found.sizes)),
        note=found.left_out(),
    )


@dataclass
class _Found:
    """What stands in the files of a folder: images by their size, and what cannot be read."""

    folder: Path
    sizes: dict[tuple[int, int], list[Path]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many could be read."""
        return sum(map(len, self.sizes.values()))

    def read(self, path: Path) -> np.ndarray | None:
        """Read an image and count it; None if it cannot be read."""
        try:
            image = read_grey(path)
        except DataError as error:
            self.faults.append(str(error))
            return None
        height, width = image.shape
        self.sizes.setdefault((height, width), []).append(path)
        if len(self.sizes) > 1 and self.images >= _COUNTED:
            raise self.mixed_sizes("the first ")
        return image

    def left_out(self) -> str:
        """Return a line on the images that cannot be read, or nothing."""
        if not self.faults:
            return ""
        are = "are left out; the first" if len(self.faults) > 1 else "is left out"
        return (
            f"{len(self.faults):,} of {len(self.faults) + self.images:,} images cannot be read and"
            f" {are}: {self.faults[0]}"
        )

    def mixed_sizes(self, which: str = "") -> DataError:
        """Return an error that says which sizes there are, and how to make one of them."""
        usual, *others = sorted(self.sizes, key=lambda size: -len(self.sizes[size]))
        listed = [f"{_text(usual)} ({len(self.sizes[usual]):,})"]
        for size in others[: _SIZES_SHOWN - 1]:
            paths = self.sizes[size]
            listed.append(f"{_text(size)} ({len(paths):,}, such as {paths[0]})")
        if more := len(self.sizes) - len(listed):
            listed[-1] += f" and {more:,} more"
        is_usual = 2 * len(self.sizes[usual]) > self.images
        wanted = _text(usual if is_usual else _ANY_SIZE).replace("×", "x")
        source, copy = (shlex.quote(f"{self.folder}{end}") for end in ("", f"-{wanted}"))
        read = [path for paths in self.sizes.values() for path in paths]
        stars = "/*" * len(read[0].relative_to(self.folder).parts)
        files = [f"{copy}{stars}{suffix}" for suffix in sorted({path.suffix for path in read})]
        return DataError(
            f"{self.folder}: {which}{self.images:,} images are of {len(self.sizes)} sizes, where"
            f" one is wanted: {', '.join(listed)}; to make copies of one size with ImageMagick:"
            f" cp -r {source} {copy} && mogrify -resize '{wanted}!' {' '.join(files)}"
        )


def _parts(folder: Path) -> dict[str, Path]:
    """Return the folders of the parts that a folder is divided into, else itself to train on."""
    folders = _folders(folder)
    names = [_PARTS.get(entry.name.lower()) for entry in folders]
    trains = [entry for entry, part in zip(folders, names, strict=True) if part == "train"]
    if None in names or not any(map(_folders, trains)):
        return {"train": folder}
    parts: dict[str, Path] = {}
    for entry, part in zip(folders, names, strict=True):
        assert part is not None
        if part in parts:
            raise DataError(
                f"{folder}: {parts[part].name} and {entry.name} are both a {part} part; expected"
                " one: move the other out of it"
            )
        parts[part] = entry
    return parts


def _read_classes(folder: Path, found: _Found) -> tuple[list[np.ndarray], list[str]]:
    """Read a folder with one sub-folder of images a class: images of one size, and their labels."""
    images: list[np.ndarray] = []
    labels: list[str] = []
    classes = _folders(folder)
    if not classes:
        raise DataError(
            f"{folder}: no sub-folder of images, one a class, is in it; without labels they are no"
            " part of the data: move it elsewhere"
        )
    for sub_folder in classes:
        if inner := _folders(sub_folder):
            hint = ""
            if any(entry.name.lower() in _PARTS for entry in classes):
                hint = "; parts are folders train, valid and test, train among them, and no other"
            raise DataError(
                f"{inner[0]}: a folder in {sub_folder.name}, where only images of the class"
                f" {sub_folder.name} are wanted{hint}"
            )
        images_before, faults_before = found.images, len(found.faults)
        for path in filter(is_image, visible(sub_folder)):
            image = found.read(path)
            # of several sizes none is kept, as they end in an error
            if image is not None and len(found.sizes) == 1:
                images.append(image)
                labels.append(sub_folder.name)
        if found.images == images_before:
            faults = found.faults[faults_before:]
            why = f": {len(faults):,} cannot be read, the first: {faults[0]}" if faults else ""
            raise DataError(f"{sub_folder}: a class without a single image{why}")
    return images, labels


def _shuffled(images: list[np.ndarray], labels: list[str]) -> Samples:
    order = np.random.default_rng(0).permutation(len(images))
    x = np.stack(images).reshape(len(images), -1)
    return x[order], np.array(labels)[order]


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in visible(folder) if entry.is_dir()]


def is_image(path: Path) -> bool:
    """Whether a name is an image's; one without a suffix, or with a number for one, can be."""
    suffix = path.suffix.lower()
    return suffix in _SUFFIXES or not suffix or suffix[1:].isdecimal()

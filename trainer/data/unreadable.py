"""Files that are not read: what they are, by content or name, and what to type instead."""

from __future__ import annotations

import gzip
import json
import shlex
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from ..array_files import parsing
from .dataset import DataError
from .images import HEIF

_HEAD = 4096  # bytes that are looked at
_GZIP, _HDF5, _ZIP = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# the first bytes of a pickle: of protocols 2 to 5, and of the older ones' usual objects
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(lp0", b"(dp0", b"cnumpy")
_WEB_PAGES = (b"<!doctype html", b"<html")
_LFS_POINTER = b"version https://git-lfs"
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_UNPACK = {
    b"7z\xbc\xaf'\x1c": "7z x",
    b"Rar!\x1a\x07": "unrar x",
    b"BZh": "bunzip2 -k",
    b"\xfd7zXZ\0": "unxz -k",
}
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


def refuse(path: Path) -> None:
    """Raise a DataError that says what a file is and what to type, if it is known and not read."""
    refuse_stand_in(path)
    if line := _line(path, _head(path)):
        raise DataError(f"{path}: {line}")


def refuse_stand_in(path: Path) -> None:
    """Raise a DataError for what a failed download or copy leaves in place of a file."""
    head, line = _head(path), ""
    if not head:
        line = "an empty file; download or copy it again"
    elif head.lstrip().lower().startswith(_WEB_PAGES):
        line = "a web page, not the file itself; download that: on GitHub by the button Raw"
    elif head.startswith(_LFS_POINTER):
        line = "what Git LFS leaves in place of a file; in its repository, type: git lfs pull"
    if line:
        raise DataError(f"{path}: {line}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _line(path: Path, head: bytes) -> str:
    name, typed = path.name.lower(), shlex.quote(str(path))
    packed = head.startswith(_GZIP)
    if packed:
        head = _unpacked(path)
    if head.startswith(b"MATLAB 7.3") or (name.endswith(".mat") and _HDF5 in head):
        return _matlab_7_3(path)
    if name.endswith(".mat"):
        return _matlab_4(path) if 0 in head[:4] else ""
    if head.startswith(_HDF5) or name.endswith((".h5", ".hdf5", ".hdf")):
        return _hdf5(path)
    if head.startswith(b"\x93NUMPY") or name.endswith(".npy"):
        return _npy(path)
    if name.endswith((".pt", ".pth")):
        return _pytorch(path)
    if head.startswith(_ZIP) and not packed:
        return _zip(path, typed)
    unpack = next((command for mark, command in _UNPACK.items() if head.startswith(mark)), "")
    if head[257:262] == b"ustar" or name.endswith(_TARS):
        unpack = "tar xf"
    if unpack:
        return f"an archive; unpack it, and give what is in it: {unpack} {typed}"
    if head.startswith(_PICKLES) or name.removesuffix(".gz").endswith(
        (".pkl", ".pickle", ".joblib")
    ):
        return _pickle(path, packed)
    if head.startswith(_EXCEL) or name.endswith((".xls", ".xlsx", ".ods")):
        return _excel(path)
    kind = next((kind for mark, kind in _PICTURES.items() if head.startswith(mark)), "")
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        kind = "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        kind = "WebP"
    if head[4:12] in HEIF:
        kind = "HEIC or AVIF"
    if kind:
        return (
            f"one {kind} picture; a trained run looks at it: python -m trainer predict RUN {typed};"
            " to train on, a folder with one sub-folder of pictures a class is wanted"
        )
    return ""


def _unpacked(path: Path) -> bytes:
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
        return file.read(_HEAD)
    return b""


def _zip(path: Path, typed: str) -> str:
    is_npz = path.suffix.lower() == ".npz"
    with (
        parsing(path, "npz archive" if is_npz else "zip archive"),
        zipfile.ZipFile(path) as archive,
    ):
        names = archive.namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return _pytorch(path)
    if "xl/workbook.xml" in names:
        return _excel(path)
    if is_npz:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"an .npz file under another name; name it so: mv {typed} {typed}.npz"
    folder = shlex.quote(path.stem)
    return f"a zip archive; unpack it, and give the folder: unzip {typed} -d {folder}"


# --- what to type -----------------------------------------------------------------------------


def _python(code: str, path: Path) -> str:
    """Return a command that runs code, in which FILE stands for the path."""
    return (
        f"python -c {shlex.quote(code.replace('FILE', json.dumps(str(path), ensure_ascii=False)))}"
    )


def _matlab_7_3(path: Path) -> str:
    code = (
        "import h5py, numpy as np; f = h5py.File(FILE);"
        ' np.savez("data.npz", X=f["X"][:].T, y=f["y"][:].ravel())'
    )
    return (
        "a MATLAB 7.3 file, which is HDF5 and is not read; in MATLAB:"
        f" save('data.mat', 'X', 'y', '-v7'); or with h5py: {_python(code, path)}, and then"
        " --transpose if the images lie on their side"
    )


def _matlab_4(path: Path) -> str:
    code = 'from scipy.io import loadmat, savemat; savemat("data.mat", loadmat(FILE))'
    return (
        f"a MATLAB 4 file; version 5 is wanted: save(…, '-v7') in MATLAB, or {_python(code, path)}"
    )


def _hdf5(path: Path) -> str:
    code = (
        "import h5py, numpy as np; f = h5py.File(FILE); print(list(f));"
        ' np.savez("data.npz", x_train=f["x_train"][:], y_train=f["y_train"][:])'
    )
    return (
        "an HDF5 file, which is not read; make an .npz of it with h5py and the names that this"
        f" prints: {_python(code, path)}"
    )


def _npy(path: Path) -> str:
    code = (
        "import numpy as np;"
        ' np.savez("data.npz", x_train=np.load(FILE), y_train=np.load("labels.npy"))'
    )
    return f"an array alone, without labels; put both into one file: {_python(code, path)}"


def _pickle(path: Path, packed: bool) -> str:
    opened = "gzip.open(FILE)" if packed or path.suffix.lower() == ".gz" else 'open(FILE, "rb")'
    code = (
        f'import gzip, pickle, numpy as np; d = pickle.load({opened}, encoding="latin1"); '
        'np.savez("data.npz", x_train=d["data"], y_train=d["labels"])'
    )
    if path.name.lower().startswith("mnist.pkl"):
        code = (
            f'import gzip, pickle, numpy as np; a, b, c = pickle.load({opened}, encoding="latin1");'
            ' np.savez("data.npz", x_train=a[0], y_train=a[1], x_val=b[0], y_val=b[1],'
            " x_test=c[0], y_test=c[1])"
        )
    return (
        "a pickle, which can run any program when it is read, and is never unpickled here; if you"
        f" trust it, make an .npz of it: {_python(code, path)}"
    )


def _pytorch(path: Path) -> str:
    code = (
        "import torch, numpy as np; x, y, *_ = torch.load(FILE);"
        ' np.savez("data.npz", x_train=x.numpy(), y_train=y.numpy())'
    )
    return (
        "a PyTorch file, which holds a pickle and is never unpickled here; if you trust it, make an"
        f" .npz of it: {_python(code, path)}"
    )


def _excel(path: Path) -> str:
    code = 'import pandas; pandas.read_excel(FILE).to_csv("data.csv", index=False)'
    return f"a spreadsheet; save it as CSV there, or with pandas: {_python(code, path)}"

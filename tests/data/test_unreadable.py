"""Files that are not read are named, with a command that makes readable ones of them."""

from __future__ import annotations

import gzip
import io
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from trainer.data import DataError, load, load_unlabelled

X = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
Y = np.array([0, 1, 2, 0, 1, 2])
HDF5 = b"\x89HDF\r\n\x1a\n"


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


def tarred(mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        file.addfile(tarfile.TarInfo("cat/a.png"))
    return buffer.getvalue()


def picture(kind):
    buffer = io.BytesIO()
    Image.fromarray(X[0]).save(buffer, kind)
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, X)
    return buffer.getvalue()


FILES = {
    "a.h5": (HDF5, "an HDF5 file.*h5py.*np.savez"),
    "b.hdf5": (b"x", "an HDF5 file"),
    "hdf5-by-content": (HDF5 + bytes(99), "an HDF5 file"),
    "a.mat": (b"MATLAB 7.3 MAT-file".ljust(512) + HDF5, "MATLAB 7.3.*HDF5.*'-v7'.*h5py"),
    "b.mat": (b"x".ljust(512) + HDF5, "MATLAB 7.3"),
    "a.pkl": (pickle.dumps({"data": X}), "a pickle.*never unpickled.*np.savez"),
    "a.pkl.gz": (b"\x1f\x8b", "a pickle.*gzip.open"),
    "mnist.pkl.gz": (gzip.compress(pickle.dumps(X)), "a pickle.*x_val"),
    "pickle-by-content": (pickle.dumps(X, 2), "a pickle"),
    "old-pickle": (pickle.dumps([1], 0), "a pickle"),
    "packed-pickle.dat.z": (gzip.compress(pickle.dumps(X, 4)), "a pickle.*gzip.open"),
    "a.joblib": (b"x", "a pickle"),
    "a.pt": (zipped("a/data.pkl", "a/data/0"), "a PyTorch file.*torch.load"),
    "b.pth": (pickle.dumps(X, 2), "a PyTorch file"),
    "torch-by-content": (zipped("a/data.pkl"), "a PyTorch file"),
    "pictures.zip": (
        zipped("cat/a.png", "dog/b.png"),
        "a zip archive.*unzip .*pictures.zip -d pic",
    ),
    "npz-by-content": (zipped("x.npy", "y.npy"), r"an .npz file under another name.*mv "),
    "a.tar": (tarred(), "unpack it.*tar xf"),
    "a.tar.gz": (tarred("w:gz"), "tar xf"),
    "a.tgz": (tarred("w:gz"), "tar xf"),
    "tar-by-content": (tarred("w:gz"), "tar xf"),
    "a.7z": (b"7z\xbc\xaf'\x1c" + bytes(9), "unpack it.*7z x"),
    "a.rar": (b"Rar!\x1a\x07\x01", "unrar x"),
    "train-images-idx3-ubyte.xz": (b"\xfd7zXZ\0", "unxz -k"),
    "a.xlsx": (zipped("xl/workbook.xml"), "a spreadsheet.*CSV"),
    "a.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet"),
    "really-excel.csv": (zipped("xl/workbook.xml"), "a spreadsheet"),
    "really-a-pickle.dat": (pickle.dumps(X), "a pickle"),
    "a.png": (picture("PNG"), "one PNG picture.*predict RUN .*a.png"),
    "picture-by-content": (picture("JPEG"), "one JPEG picture"),
    "a.bmp": (picture("BMP"), "one BMP picture"),
    "a.webp": (picture("WEBP"), "one WebP picture"),
    "photo": (b"\0\0\0\x18ftypheic" + bytes(9), "one HEIC or AVIF picture"),
    "page.npz": (b"\n<!DOCTYPE html><p>Not found", "a web page.*Raw"),
    "page.csv": (b"<html><body>404", "a web page"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
    **{f"empty{suffix}": (b"", "an empty file") for suffix in ("", ".csv", ".npz", ".mat", ".pt")},
    "a.npy": (npy(), "an array alone, without labels.*np.savez"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_by_what_it_is(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{words}") as caught:
        load(tmp_path / name)
    assert str(caught.value).isprintable()
    if not name.endswith((".npy", ".csv", ".dat")):
        with pytest.raises(DataError, match=rf"{name}: .*{words}"):
            load_unlabelled(tmp_path / name, 4)


def test_what_only_looks_like_one_is_not_named_so(tmp_path):
    for name, content in {"BMI.bin": b"BMI,age\n1,2", "GIF": b"GI", "R": b"RIFF----WAVE"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="a file of unknown kind"):
            load(tmp_path / name)


class Never:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Never()))
    with pytest.raises(DataError, match="never unpickled"):
        load(tmp_path / "a.pkl")


def code_for(path):
    """Return the Python code that a refusal says to type."""
    with pytest.raises(DataError) as caught:
        load(path)
    return shlex.split(str(caught.value).partition("python -c ")[2])[0]


def test_the_commands_make_files_that_are_read(tmp_path):
    """In one process, since each takes its time to start."""
    np.save(tmp_path / "it's x.npy", X)
    np.save(tmp_path / "labels.npy", Y)
    part = (X.reshape(6, 4), Y)
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps((part, part, part))))
    (tmp_path / "batch.pkl").write_bytes(pickle.dumps({"data": X, "labels": Y}))
    savemat(tmp_path / "old.mat", {"X": X.reshape(6, 4), "y": Y}, format="4")
    names = ("it's x.npy", "mnist.pkl.gz", "batch.pkl", "old.mat")
    codes = [code_for(tmp_path / name) for name in names]
    code = "; import os; os.rename('data.npz', '%d.npz')"
    script = "\n".join(text + code % at for at, text in enumerate(codes[:3])) + "\n" + codes[3]
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True)
    for made in ("0.npz", "1.npz", "2.npz"):
        data = load(tmp_path / made, test_data=tmp_path / made)
        np.testing.assert_array_equal(data.train_x, X.reshape(6, 4))
        np.testing.assert_array_equal(data.train_y, Y)
    np.testing.assert_array_equal(load(tmp_path / "data.mat").train_y, Y)

"""No file is ever unpickled: each kind of file, with a pickle in it that would make a folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data import mnist

from .readers import CONFIG, LABELS, MATRIX, PIXELS, READERS, archive, mat, model, npy, picture

MARKER = "unpickled"
CPU = ["--device", "cpu", "--quiet"]
WEIGHTS = ["--recipe", "rashid", "--data", "digits", "--device", "cpu"]


class Payload:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (MARKER,)


PICKLE = pickle.dumps(Payload())
OBJECTS = np.array([Payload(), 1], dtype=object)


def saved(array: np.ndarray) -> bytes:
    """Write objects as np.save does."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    assert b"mkdir" in buffer.getvalue()
    return buffer.getvalue()


def mat_of_class(number: int) -> bytes:
    """Write a variable X of another class than numbers, with a pickle for content."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)

    x = element(6, struct.pack("<2I", number, 0)) + element(5, struct.pack("<2i", 1, len(PICKLE)))
    x += element(1, b"X") + element(2, PICKLE)
    return mat(y=LABELS) + element(14, x)


STRUCTURE = saved(np.array([(Payload(), 1.0)], dtype=[("a", "O"), ("b", "f8")]))
GOOD = {"y_train.npy": npy(LABELS)}
FILES: dict[str, list[tuple[str, bytes]]] = {
    # by reader: what it is given
    **{name: [("a pickle", PICKLE)] for name in READERS},
    "npy-weights": [("a pickle", PICKLE), ("objects", saved(OBJECTS)), ("structure", STRUCTURE)],
    "npz": [
        ("a pickle", PICKLE),
        ("objects", archive({"x_train.npy": saved(OBJECTS), **GOOD})),
        ("structure", archive({"x_train.npy": STRUCTURE, **GOOD})),
        ("labels", archive({"x_train.npy": npy(PIXELS), "y_train.npy": saved(OBJECTS)})),
        ("a raw member", archive({"x_train.npy": PICKLE, **GOOD})),
        ("a member .pkl", archive({"x_train.pkl": PICKLE, "data.pkl": PICKLE, **GOOD})),
    ],
    "npz-weights": [
        ("a pickle", PICKLE),
        ("objects", archive({"W1.npy": saved(OBJECTS)})),
        ("a member .pkl", archive({"W1.pkl": PICKLE, "archive/data.pkl": PICKLE})),
    ],
    "mat": [("a pickle", PICKLE), *((f"class {i}", mat_of_class(i)) for i in (1, 2, 3, 16, 17))],
    "mat-weights": [("a pickle", PICKLE), ("opaque", mat_of_class(17))],
    "csv": [("a pickle", PICKLE), ("protocol 0", pickle.dumps(Payload(), 0))],
    "png-chunks": [
        ("text", picture("PNG")[:33] + struct.pack(">I", len(PICKLE)) + b"tEXt" + PICKLE + bytes(4))
    ],
}
# a comment, the pixels of a drawing, an image that is left out beside others
_TAKING_ANYTHING = ("png-chunks", "drawing", "image-folder-parts")
CASES = [
    pytest.param(reader, content, id=f"{reader}-{what}")
    for reader, cases in FILES.items()
    for what, content in cases
]


def check(done: dict[str, Any], folder: Path) -> None:
    assert "traceback" not in done, done
    assert done["unpickled"] == []
    assert not list(folder.rglob(MARKER))


def test_the_payload_works(tmp_path, isolated):
    """Else the other tests would show nothing."""
    (tmp_path / "p").write_bytes(PICKLE)
    done = isolated(unpickle=str(tmp_path / "p"), folder=str(tmp_path))
    assert "traceback" not in done, done
    assert done["unpickled"] == [f"{os.mkdir.__module__}.mkdir"]
    assert (tmp_path / MARKER).is_dir()
    with pytest.raises(AssertionError):
        check(done, tmp_path)


@pytest.mark.parametrize(("name", "content"), CASES)
def test_no_reader_unpickles(tmp_path, isolated, name, content):
    reader = READERS[name]
    reader.prepare(tmp_path)
    path = tmp_path / reader.file
    path.write_bytes(reader.wrap(content))
    done = isolated(reader=name, path=str(path), folder=str(tmp_path))
    check(done, tmp_path)
    if name not in _TAKING_ANYTHING:
        assert str(tmp_path) in done["result"]


def run_folder(folder: Path, **files: bytes) -> None:
    """Make a run, some files of which are others."""
    folder.mkdir()
    config = json.dumps(CONFIG).encode()
    metrics = b'{"epoch": 1, "train_loss": 0.5}\n'
    for name, content in {
        "config.json": config,
        "metrics.jsonl": metrics,
        "model.safetensors": model(),
        **files,
    }.items():
        (folder / name).write_bytes(content)


COMMANDS = [
    (["train", "--data", "a.csv", *CPU], {"a.csv": PICKLE}),
    (["train", "--data", "a.npz", *CPU], {"a.npz": FILES["npz"][1][1]}),
    (["train", "--data", "a.mat", *CPU], {"a.mat": mat_of_class(17)}),
    (["train", "--data", "set", *CPU], {"set/cat/a.png": PICKLE}),
    (
        ["train", "--data", "set", *CPU],
        {f"set/{name}": PICKLE for name in mnist.FILES},
    ),
    (
        ["train", "--data", "set", *CPU],
        {f"set/{name.removesuffix('.gz')}": PICKLE for name in mnist.FILES},
    ),
    *(
        (["import-weights", f"w.{kind}", *WEIGHTS], {f"w.{kind}": content})
        for kind, content in {
            "npy": saved(OBJECTS),
            "npz": FILES["npz-weights"][1][1],
            "mat": mat_of_class(17),
            "csv": PICKLE,
            "safetensors": PICKLE,
        }.items()
    ),
    (["evaluate", "w.npy", *WEIGHTS], {"w.npy": PICKLE}),
    (["train", "--init-from", "w.npy", "--data", "digits", *CPU], {"w.npy": saved(OBJECTS)}),
    (["evaluate", "run", "--device", "cpu"], {"run/config.json": PICKLE}),
    (["evaluate", "run", "--device", "cpu"], {"run/model.safetensors": PICKLE}),
    (["predict", "run", "a.png", "--device", "cpu"], {"a.png": PICKLE}),
    (["plot", "run"], {"run/metrics.jsonl": PICKLE}),
    (["sweep", "--resume", "run"], {"run/config.json": PICKLE}),
]


@pytest.mark.parametrize(("command", "files"), COMMANDS, ids=lambda value: "-".join(value)[:40])
def test_no_command_unpickles(tmp_path, isolated, command, files):
    run_folder(tmp_path / "run")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    done = isolated(command=command, folder=str(tmp_path))
    check(done, tmp_path)
    code, error = done["result"]
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnists_cache_is_not_unpickled(tmp_path, isolated, suffix):
    """Nor is a file beside the four of it read in their place."""
    cache = Path(isolated.cache) / "mnist"
    cache.mkdir(parents=True, exist_ok=True)
    for name in mnist.FILES:
        (cache / (name.removesuffix(".gz") + suffix)).write_bytes(PICKLE)
    done = isolated(command=["train", "--data", "mnist", *CPU], folder=str(tmp_path))
    check(done, tmp_path)
    code, error = done["result"]
    assert code == 2
    assert error.count("\n") == 1
    assert "MNIST cannot be downloaded" in error


# --- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..\\x", "C:\\x", "a/../../x"])
def test_names_in_an_archive_lead_nowhere(tmp_path, isolated, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    content = archive({f"{name}.npy": npy(MATRIX), "x_train.npy": npy(PIXELS), **GOOD})
    (folder / "a.npz").write_bytes(content)
    (folder / "w.npz").write_bytes(archive({f"{name}.npy": npy(MATRIX)}))
    assert isolated(reader="npz", path=str(folder / "a.npz"))["result"] is None
    assert isolated(reader="npz-weights", path=str(folder / "w.npz"))["result"] is None
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "a.npz", "b", "w.npz"]
    assert not Path("/tmp/x.npy").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("idx-folder", "train-images-idx3-ubyte"),
        ("idx-folder", "train-labels-idx1-ubyte"),
        ("csv-folder", "test.csv"),
        ("csv-folder", "train.csv"),
        ("image-folder", "cat/a.png"),
        ("kuzushiji", "kmnist-train-imgs.npz"),
        ("kuzushiji", "kmnist-train-labels.npz"),
        ("config", "config.json"),
        ("metrics", "metrics.jsonl"),
        ("model", "model.safetensors"),
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_what_is_no_file_is_not_waited_for(tmp_path, isolated, name, file, kind):
    reader = READERS[name]
    reader.prepare(tmp_path)
    for other in (reader.file, *reader.beside):
        (tmp_path / other).write_bytes(reader.beside.get(other, reader.seeds[0]))
    (tmp_path / file).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / file)
    elif kind == "folder":
        (tmp_path / file).mkdir()
    else:
        (tmp_path / file).symlink_to("/dev/zero" if kind == "device" else tmp_path / "nowhere")
    done = isolated(reader=name, path=str(tmp_path / reader.file), memory=1 << 29)
    assert "traceback" not in done, done
    assert str(tmp_path) in done["result"]


def test_a_link_in_a_folder_of_images_is_read_and_left_alone(tmp_path, isolated):
    """Reading writes nothing, wherever a link may lead."""
    reader = READERS["image-folder"]
    reader.prepare(tmp_path / "set")
    (tmp_path / "elsewhere.png").write_bytes(picture("PNG"))
    (tmp_path / "set" / reader.file).symlink_to(tmp_path / "elsewhere.png")
    done = isolated(reader=reader.name, path=str(tmp_path / "set" / reader.file))
    assert done["result"] is None
    assert (tmp_path / "elsewhere.png").read_bytes() == picture("PNG")


def test_nothing_here_names_pickle():
    """What does not import it cannot use it."""
    root = Path(__file__).resolve().parents[2]
    for path in (*root.glob("trainer/**/*.py"), *root.glob("backends/**/*.py")):
        for word in ("import pickle", "allow_pickle=True", "joblib.load", "import dill", "marshal"):
            assert word not in path.read_text(), path

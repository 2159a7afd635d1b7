import os

import pytest

from trainer.files import write_whole


def test_writes_and_overwrites(tmp_path):
    path = tmp_path / "a.bin"
    write_whole(path, b"old")
    assert path.read_bytes() == b"old"
    write_whole(str(path), b"new\x00")
    assert path.read_bytes() == b"new\x00"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_an_ordinary_files(tmp_path, umask):
    old = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("step", ["os.fsync", "os.chmod", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a", b"")

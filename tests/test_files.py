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


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX")
def test_a_link_is_followed_and_a_pipe_written_to(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    for path in (tmp_path / "none" / "a", tmp_path):
        with pytest.raises(OSError, match="Errno") as caught:
            write_whole(path, b"")
        assert caught.value.filename == str(path)

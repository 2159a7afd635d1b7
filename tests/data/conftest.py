"""No test of the data may see the user's cache or the network."""

import os
from pathlib import Path

import pytest

from trainer.data import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep downloads in the test's own folder, and every mirror out of reach."""
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("trainer.data.mnist.MIRRORS", ("http://127.0.0.1:9/mnist/",))


@pytest.fixture(scope="session")
def complaint():
    """Return a function that reads, lets nothing but a good DataError happen, and returns it."""

    def read(reader, path):
        try:
            reader()
        except DataError as error:
            message = str(error)
        else:
            return None
        assert str(path) in message
        assert "\n" not in message
        return message

    return read


@pytest.fixture
def real_data():
    """Return the folder of real data, or skip."""
    folder = os.environ.get("TRAINER_DATA")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("TRAINER_DATA names no folder of real data")
    return Path(folder).resolve()

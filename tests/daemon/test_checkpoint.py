"""What is kept between processes is data, and is believed only as it was written."""

import pickle
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reconciler.daemon import checkpoint, graph


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self._touched = touched

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._touched,)


def test_what_was_saved_is_loaded(tmp_path: Path):
    checkpoint.save(tmp_path / "file", ({"a": 1}, "b"))
    assert checkpoint.load(tmp_path / "file", tuple) == ({"a": 1}, "b")
    assert checkpoint.load(tmp_path / "file", str) is None
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_pickle_is_never_loaded(tmp_path: Path):
    (tmp_path / "file").write_bytes(pickle.dumps((checkpoint._code(), Evil(tmp_path / "touched"))))
    assert checkpoint.load(tmp_path / "file", tuple) is None
    assert not (tmp_path / "touched").exists()


def test_one_flipped_bit_anywhere_is_found_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    checkpoint.save(file, ({"a": 1}, "b"))
    sound = file.read_bytes()
    monkeypatch.setattr(graph, "load", lambda _: pytest.fail("it was read"))
    for at in range(len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        with capture_logs() as logs:
            assert checkpoint.load(file, tuple) is None
        assert [one["event"] for one in logs] == ["a cache is damaged, and is made anew"]
        assert not file.exists()


def test_what_other_code_wrote_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    checkpoint.save(file, ("a",))
    monkeypatch.setattr(checkpoint, "_code", lambda: "other")
    with capture_logs() as logs:
        assert checkpoint.load(file, tuple) is None
    assert logs == []
    assert file.exists()

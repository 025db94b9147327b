"""What only we may read and write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import private
from reconciler.errors import UsageError


def test_a_folder_of_ours_or_none_is_fine(tmp_path: Path):
    (tmp_path / "state").mkdir(mode=0o755)
    private.check_folder(tmp_path / "state")
    private.check_folder(tmp_path / "missing")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722, 0o1777])
def test_a_folder_that_others_can_write_is_refused_with_the_way_out(tmp_path: Path, mode: int):
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UsageError, match=rf"can be written by others \(mode {mode:04o}\).*`chmod go-w .*--state-dir"):
        private.check_folder(folder)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UsageError, match=r"belongs to user .*believed.*--state-dir"):
        private.check_folder(tmp_path)


def test_a_process_writes_for_itself_alone_and_leaves_no_core_file(tmp_path: Path):
    script = f"""
import os, resource
from pathlib import Path
os.umask(0o022)
from reconciler import private
private.begin()
Path({str(tmp_path / "file")!r}).write_text("x")
print(resource.getrlimit(resource.RLIMIT_CORE)[0], oct(private.shared_mode(0o666)))
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["0", "0o644"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600

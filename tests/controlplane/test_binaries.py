"""The programs come from the assets folder, else from one build that is kept, whole or not at all."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.controlplane import binaries

FAKE_GO = """#!/bin/sh
# Plays `go install tool`: writes what the module at hand would make, after a while.
echo run >> "$XDG_CACHE_HOME/calls"
test -z "$FAIL" || { echo "no such module" >&2; exit 1; }
sleep 0.2
case "$PWD" in
*/kwok) made=kwok ;;
*) made="server kube-apiserver kube-controller-manager kube-scheduler kubectl" ;;
esac
for name in $made; do echo "#!/bin/sh" > "$GOBIN/$name"; chmod +x "$GOBIN/$name"; done
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and a go that only pretends."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setitem(binaries._HOME, "XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def calls(machine: Path) -> int:
    return len((machine / "calls").read_text().splitlines())


def test_what_is_missing_is_built_once_per_module_and_kept(machine):
    assert not binaries.ready()
    found = binaries.find(say=binaries.say_nothing)
    assert set(found) == set(binaries.COMPLETE)
    assert all(path.is_file() for path in found.values())
    assert binaries.ready()
    assert binaries.find(say=binaries.say_nothing) == found
    assert calls(machine) == 2


def test_two_that_need_a_build_at_once_build_once(machine):
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(binaries.find, binaries.QUICK, binaries.say_nothing) for _ in range(2)]
    assert both[0].result() == both[1].result()
    assert calls(machine) == 1


def test_a_build_that_fails_says_so_and_leaves_nothing_that_looks_built(machine, monkeypatch):
    monkeypatch.setenv("FAIL", "yes")
    with pytest.raises(binaries.BinariesUnavailableError, match="no such module"):
        binaries.find(binaries.QUICK, binaries.say_nothing)
    assert not binaries.ready(binaries.QUICK)
    monkeypatch.delenv("FAIL")
    assert set(binaries.find(binaries.QUICK, binaries.say_nothing)) == set(binaries.QUICK)


def test_the_assets_folder_is_used_for_what_it_holds(machine, monkeypatch):
    """A machine set up for controller tests has three of the programs; nothing is built for an incomplete member."""
    assets = machine / "assets"
    assets.mkdir()
    for name in binaries.QUICK:
        (assets / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert binaries.find(binaries.QUICK, binaries.say_nothing) == {name: assets / name for name in binaries.QUICK}
    assert not (machine / "calls").exists()
    found = binaries.find(say=binaries.say_nothing)
    assert found["etcd"] == assets / "etcd"
    assert found["kube-scheduler"].parent != assets


# -- what pytest does where there can be no programs ---------------------------------------------------

TEST_FILE = """
def test_that_needs_members(members):
    assert len(members) == 3

def test_that_needs_none():
    assert True
"""


def run_pytest(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run two tests on a machine without Go, without a package index and with an empty cache."""
    (tmp_path / "test_some.py").write_text(TEST_FILE)
    root = Path(__file__).parents[2]
    bare = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(root), "PIP_NO_INDEX": "1"}
    options = ["-p", "tests.controlplane.plugin", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_some.py")],
        env=bare | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_go_the_tests_that_need_members_are_left_out_in_a_line(tmp_path):
    done = run_pytest(tmp_path)
    assert "1 passed, 1 deselected" in done.stdout
    assert done.stdout.count("LEFT OUT: 1 tests on real control planes: no go on the PATH") == 1
    assert done.returncode == 0


def test_in_ci_a_missing_go_is_a_failure(tmp_path):
    done = run_pytest(tmp_path, CI="true")
    assert "no go on the PATH, and pip could not install" in done.stdout
    assert "1 passed, 1 error" in done.stdout
    assert done.returncode == 1

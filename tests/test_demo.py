"""The demo, as anybody would run it: it ends well, and tells what it says it tells."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.members import merged


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a workspace of its own."""
    command = [sys.executable, "-m", "reconciler", "demo", "--keep", str(folder / "kept"), *arguments]
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, check=False)


def check(done: subprocess.CompletedProcess[str]) -> None:
    """Make sure of the ways there and back: the last that is shown of each is what was there at first."""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    told = done.stdout.splitlines()
    values = [line.split()[1] for line in told if line.strip().startswith("key: value")]
    images = [line.split()[-1] for line in told if line.strip().endswith(("nginx:1.20", "nginx:1.21"))]
    assert values == [*["value2"] * 3, *["value1"] * 3, *["value2"] * 3]
    assert images[-6:] == [*["nginx:1.21"] * 3, *["nginx:1.20"] * 3]


def test_the_demo_runs_on_folders(tmp_path: Path):
    check(demo(tmp_path))
    assert (tmp_path / "kept/members/member1/test-namespace/ConfigMap/test-cm.yaml").exists()


@pytest.mark.xdist_group("controlplane")
def test_the_demo_runs_on_real_control_planes(member_factory: Any, tmp_path: Path):
    planes = member_factory(3)
    file = tmp_path / "config"
    file.write_text(json.dumps(merged(planes)))
    check(demo(tmp_path, "--kubeconfig", str(file), "--contexts", ",".join(plane.name for plane in planes)))
    for plane in planes:
        settings = json.loads(plane.kubectl("get", "-n", "test-namespace", "configmap", "test-cm", "-o", "json"))
        assert settings["data"] == {"key": "value2"}


@pytest.mark.parametrize("contexts", ["", "a", "a,b", "a,b,c,d"])
def test_the_demo_wants_three_clusters(tmp_path: Path, contexts: str):
    done = demo(tmp_path, "--kubeconfig", "config", "--contexts", contexts)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--kubeconfig needs --contexts with three names: a,b,c" in done.stderr

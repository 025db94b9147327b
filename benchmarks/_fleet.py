"""Fleet repositories for the benchmarks, written by git fast-import; the manifests are those of a plain fleet."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

MAIN = "refs/heads/main"

Files = Mapping[str, str]
"""Path → text."""

_IDENTITY = "Bench <bench@example.com>"
_BEGIN = 1_750_000_000
_API = "placement.kubernetes-fleet.io/v1"


def make(repository: Path, commits: Iterable[Files]) -> None:
    """Make a bare repository whose main branch has these commits, each with what it changes."""
    git(repository.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    add(repository, commits, at=0)


def add(repository: Path, commits: Iterable[Files], *, at: int) -> None:
    """Add commits to the main branch; `at` is how many it has."""
    stream = b"".join(_commit(number, files, first=number == at) for number, files in enumerate(commits, start=at))
    git(repository, "fast-import", "--quiet", "--date-format=raw", given=stream)


def _commit(number: int, files: Files, *, first: bool) -> bytes:
    message = f"Change {number}\n".encode()
    head = f"commit {MAIN}\ncommitter {_IDENTITY} {_BEGIN + 60 * number} +0000\ndata {len(message)}\n".encode()
    parent = f"from {MAIN}^0\n".encode() if first and number else b""  # the others follow the one before by themselves
    return head + message + parent + b"".join(_file(path, text.encode()) for path, text in files.items()) + b"\n"


def _file(path: str, data: bytes) -> bytes:
    return f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n"


def git(where: Path, *arguments: str, given: bytes = b"") -> str:
    """Run a git command in a directory and return what it printed, without the last line's end."""
    done = subprocess.run(["git", *arguments], cwd=where, input=given, capture_output=True, check=True)
    return done.stdout.decode().rstrip("\n")


# -- manifests -----------------------------------------------------------------------------------------------------


def cluster(name: str, ring: str) -> str:
    """Return a MemberCluster with the label `ring`."""
    return f"""\
apiVersion: cluster.kubernetes-fleet.io/v1
kind: MemberCluster
metadata:
  name: {name}
  labels:
    ring: {ring}
"""


def placement(name: str) -> str:
    """Return a placement of the namespace of the same name, and all it holds, onto every cluster."""
    return f"""\
apiVersion: {_API}
kind: ClusterResourcePlacement
metadata:
  name: {name}
spec:
  resourceSelectors:
    - group: ""
      version: v1
      kind: Namespace
      name: {name}
  policy:
    placementType: PickAll
  strategy:
    type: External
"""


def strategy(name: str, rings: Iterable[str], percent: int) -> str:
    """Return a strategy with one stage for each ring and no gates."""
    stages = "".join(
        f"""\
    - name: {ring}
      labelSelector:
        matchLabels:
          ring: {ring}
      maxConcurrency: {percent}%
"""
        for ring in rings
    )
    return f"""\
apiVersion: {_API}
kind: ClusterStagedUpdateStrategy
metadata:
  name: {name}
spec:
  stages:
{stages}"""


def run(name: str, placement_name: str, strategy_name: str) -> str:
    """Return a run of the newest snapshot."""
    return f"""\
apiVersion: {_API}
kind: ClusterStagedUpdateRun
metadata:
  name: {name}
spec:
  placementName: {placement_name}
  stagedRolloutStrategyName: {strategy_name}
"""


def namespace(name: str) -> str:
    """Return a Namespace."""
    return f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
"""


def config_map(name: str, where: str, revision: int) -> str:
    """Return a ConfigMap of ten keys, one of which is the revision."""
    keys = "".join(f"  key{number}: value {number} of {name}\n" for number in range(9))
    return f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  namespace: {where}
  labels:
    app: {where}
data:
  revision: "{revision}"
{keys}"""


def deployment(name: str, where: str) -> str:
    """Return a Deployment."""
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {where}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
        - name: {name}
          image: registry.example.com/{name}:1.0
          ports:
            - containerPort: 8080
"""

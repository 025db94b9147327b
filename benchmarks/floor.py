"""The floor under a rollout: its server-side-apply requests alone, sent as fast as the same concurrency allows.

N members in 3 stages, half of a stage at a time; for each member its namespace, then its ConfigMaps, one after another
or some at once, whichever is faster: nothing is planned, read back, recorded or pushed. How much slower a rollout is
than this, is ours.

A second floor keeps what a rollout promises: what is begun is pushed to a Git repository before it is begun, and each
member is asked who it is, has a record written before its objects and closed after them, and is looked at before it is
written to. Both by the plainest means: `git fast-import`, `git push` and the same requests.

    python benchmarks/floor.py --members 100
"""

import argparse
import base64
import functools
import itertools
import json
import resource
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Any

import _fleet
import kubernetes
import stub
import urllib3

STAGES = 3
PERCENT = 50
NAMESPACE = "bench"
_COLD, _WARM = "cold", "warm"

PARALLEL = 8
"""Requests to one member under way at once: what the kubernetes delivery allows itself unless its settings say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What sending took: wall and CPU seconds of the client, and how many requests it sent."""

    seconds: float
    cpu_seconds: float
    requests: int

    def __str__(self) -> str:
        rate, each = self.requests / self.seconds, 1000 * self.cpu_seconds / self.requests
        return f"{self.seconds:.2f} s, {self.requests} requests, {rate:.0f} requests/s, {each:.2f} ms CPU each"


def objects(revision: str) -> tuple[dict[str, Any], ...]:
    """Return what each member gets: a namespace and ten ConfigMaps in it, of about 400 bytes."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return (namespace, *(_config_map(number, revision) for number in range(1, 11)))


def _config_map(number: int, revision: str) -> dict[str, Any]:
    metadata = {"name": f"settings-{number:02d}", "namespace": NAMESPACE, "labels": {"app": "bench"}}
    data = {"revision": revision, **{f"key{key}": f"value {key} of settings {number}" for key in range(8)}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def stages(members: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the members in as many equal stages as there are, names in order."""
    size, more = divmod(len(members), STAGES)
    bounds = [number * size + min(number, more) for number in range(STAGES + 1)]
    return tuple(tuple(members[start:end]) for start, end in itertools.pairwise(bounds))


def in_flight(stage: Sequence[str]) -> int:
    """Return how many members of a stage may be in flight together."""
    return max(1, len(stage) * PERCENT // 100)


Pools = Mapping[str, urllib3.HTTPSConnectionPool]


def open_pools(kubeconfigs: Mapping[str, Path]) -> Pools:
    """Return a pool for each member; nothing is connected yet."""
    return {name: _pool(json.loads(file.read_text(encoding="utf-8"))) for name, file in kubeconfigs.items()}


def floors(kubeconfigs: Mapping[str, Path]) -> tuple[Figures, Figures]:
    """Measure every way and print it; return the fastest that has to connect first, and the fastest that has not."""
    cold, warm = zip(*(_plain(kubeconfigs, parallel) for parallel in (1, PARALLEL)), strict=True)
    return min(cold, key=_seconds), min(warm, key=_seconds)


def _both(kubeconfigs: Mapping[str, Path], how: str, send: Callable[[Pools, str], Figures]) -> tuple[Figures, Figures]:
    """Measure a way of sending, connecting first and connected, and print both."""
    pools = open_pools(kubeconfigs)
    cold, warm = (send(pools, revision) for revision in (_COLD, _WARM))
    for pool in pools.values():
        pool.close()
    print(f"{len(pools)} members, {how}, connecting first: {cold}")
    print(f"{len(pools)} members, {how}, connected:        {warm}")
    return cold, warm


def _plain(kubeconfigs: Mapping[str, Path], parallel: int) -> tuple[Figures, Figures]:
    how = f"{parallel} requests each at a time"
    return _both(kubeconfigs, how, lambda pools, run: measure(pools, f"{run} of {parallel}", parallel))


def _seconds(figures: Figures) -> float:
    return figures.seconds


def counter(kubeconfigs: Mapping[str, Path]) -> Callable[[], int]:
    """Return what asks how many requests the members have carried out, together."""
    pool = next(iter(open_pools(dict(list(kubeconfigs.items())[:1])).values()))
    return lambda: int(json.loads(pool.urlopen("GET", stub.COUNT, headers=pool.headers).data)["served"])


def promised(kubeconfigs: Mapping[str, Path], folder: Path) -> tuple[Figures, Figures]:
    """Measure the floor that keeps the promises, and print it; return it connecting first, and connected."""
    remote, local = folder / "remote.git", folder / "local.git"
    folder.mkdir()
    for repository in (remote, local):
        _fleet.make(repository, [{"intent": "none"}])
    return _both(kubeconfigs, "with the promises kept", lambda pools, run: _promised(pools, remote, local, run))


def _promised(pools: Pools, remote: Path, local: Path, revision: str) -> Figures:
    bodies = [(_url(body), json.dumps(body).encode()) for body in objects(f"{revision} promised")]
    start, cpu = perf_counter(), _cpu_seconds()
    for stage in stages(list(pools)):
        together = in_flight(stage)
        with ThreadPoolExecutor(together) as members, ThreadPoolExecutor(together * PARALLEL) as requests:
            for first in range(0, len(stage), together):
                begun = stage[first : first + together]
                _push(remote, local, f"{revision} {begun}")
                list(members.map(lambda name, to=requests: _keep(pools[name], bodies, to, revision), begun))
    _push(remote, local, f"{revision} done")
    seconds, cpu_seconds = perf_counter() - start, _cpu_seconds() - cpu
    return Figures(seconds=seconds, cpu_seconds=cpu_seconds, requests=len(bodies) * len(pools))


def _push(remote: Path, local: Path, intent: str) -> None:
    count = int(_fleet.git(local, "rev-list", "--count", _fleet.MAIN))
    _fleet.add(local, [{"intent": intent}], at=count)
    _fleet.git(local, "push", "--quiet", str(remote), _fleet.MAIN)


def _keep(
    pool: urllib3.HTTPSConnectionPool, bodies: Sequence[tuple[str, bytes]], requests: ThreadPoolExecutor, revision: str
) -> None:
    """Deliver as a rollout has to; a namespace that is there already goes along with what is in it."""
    _ask(pool, "/api/v1/namespaces/kube-system")
    _send(pool, [_RECORD])
    _ask(pool, f"/api/v1/namespaces/{NAMESPACE}/configmaps")
    if revision == _COLD:
        _deliver(pool, bodies, requests, PARALLEL)
    else:
        list(requests.map(lambda number: _send(pool, bodies[number::PARALLEL]), range(PARALLEL)))
    _send(pool, [_RECORD])


def _ask(pool: urllib3.HTTPSConnectionPool, url: str) -> None:
    answer = pool.urlopen("GET", url, headers=pool.headers)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise SystemExit(f"GET {url}: {answer.status} {answer.data.decode(errors='replace')}")


def measure(pools: Pools, revision: str, parallel: int) -> Figures:
    """Send every object to every member, stage by stage."""
    bodies = [(_url(body), json.dumps(body).encode()) for body in objects(revision)]
    start, cpu = perf_counter(), _cpu_seconds()
    for stage in stages(list(pools)):
        together = in_flight(stage)
        with ThreadPoolExecutor(together) as members, ThreadPoolExecutor(together * parallel) as requests:
            list(members.map(lambda name, to=requests: _deliver(pools[name], bodies, to, parallel), stage))
    seconds, cpu_seconds = perf_counter() - start, _cpu_seconds() - cpu
    return Figures(seconds=seconds, cpu_seconds=cpu_seconds, requests=len(bodies) * len(pools))


def _url(body: Mapping[str, Any]) -> str:
    name = body["metadata"]["name"]
    options = "?fieldManager=floor&force=true"
    if body["kind"] == "Namespace":
        return f"/api/v1/namespaces/{name}{options}"
    return f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}{options}"


def _pool(config: Mapping[str, Any]) -> urllib3.HTTPSConnectionPool:
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authorization = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    headers = {**authorization, "Content-Type": "application/apply-patch+yaml"}
    server = urllib3.util.parse_url(cluster["server"])
    assert server.host is not None
    if "certificate-authority-data" in cluster and "token" in user:
        way: dict[str, Any] = {"ssl_context": _context(cluster["certificate-authority-data"])}
    else:
        known = kubernetes.config.new_client_from_config_dict(config).configuration  # makes files of what is no file
        way = {"ca_certs": known.ssl_ca_cert, "cert_file": known.cert_file, "key_file": known.key_file}
    return urllib3.HTTPSConnectionPool(server.host, server.port, headers=headers, maxsize=PARALLEL, **way)


@functools.cache
def _context(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=base64.b64decode(authority).decode())


def _deliver(
    pool: urllib3.HTTPSConnectionPool, bodies: Sequence[tuple[str, bytes]], requests: ThreadPoolExecutor, parallel: int
) -> None:
    namespace, *rest = bodies
    _send(pool, [namespace])
    list(requests.map(lambda number: _send(pool, rest[number::parallel]), range(parallel)))


def _send(pool: urllib3.HTTPSConnectionPool, bodies: Sequence[tuple[str, bytes]]) -> None:
    for url, data in bodies:
        answer = pool.urlopen("PATCH", url, body=data, headers=pool.headers)
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            raise SystemExit(f"PATCH {url}: {answer.status} {answer.data.decode(errors='replace')}")


_RECORD = (
    "/api/v1/namespaces/kube-system/configmaps/record?fieldManager=floor&force=true",
    json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "record", "namespace": "kube-system"}}
    ).encode(),
)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100)
    options = parser.parse_args()
    stub.allow_files()
    with tempfile.TemporaryDirectory() as folder, stub.serving(options.members, Path(folder)) as kubeconfigs:
        floors(kubeconfigs)
        promised(kubeconfigs, Path(folder) / "promised")


if __name__ == "__main__":
    main()

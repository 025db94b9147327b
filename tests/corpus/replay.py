"""A scenario's inputs in the simulated world: objects become commits, modes awkward members, pauses the clock.

`facts` holds what was seen at each recorded state, told as `compare` tells the recording.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from reconciler.status_branch import layout
from tests.awkward import Awkward
from tests.corpus import compare
from tests.corpus.compare import Facts
from tests.corpus.differences import STATE_WHEN_OMITTED
from tests.corpus.scenario import NotAScenario, Scenario
from tests.servers import git
from tests.world import World

_FOLDERS = {
    "MemberCluster": "clusters",
    "ClusterResourcePlacement": "placements",
    "ResourcePlacement": "placements",
    "ClusterResourceOverride": "overrides",
    "ResourceOverride": "overrides",
    "ClusterStagedUpdateStrategy": "strategies",
    "StagedUpdateStrategy": "strategies",
    "ClusterStagedUpdateRun": "runs",
    "StagedUpdateRun": "runs",
    "ClusterApprovalRequest": "approvals",
    "ApprovalRequest": "approvals",
}
_KEPT = re.compile(r"(runs/.*/run|approvals/.*|placements/.*/placement)\.yaml")
_LONGEST_WAIT = 30 * 60
"""Seconds, after which what a scenario waits for counts as never reached."""


class Replay:
    """One scenario on its way through the world."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world, self.scenario = world, scenario
        self.facts: dict[str, Facts] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._read: dict[bytes, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.newest = ""
        self.removed: set[str] = set()

    def run(self) -> None:
        """Do every step."""
        self.world.commits("README.md", "The fleet.\n", "Begin")
        self.world.begins()
        for step in [*self.scenario.steps, *vector_steps(self.scenario)]:
            do = _STEPS.get(step["op"])
            if do is None:
                raise NotAScenario(f"step {step['step']}: op {step['op']} is not known")
            try:
                do(self, step)
            except KeyError as error:
                raise NotAScenario(f"step {step.get('step', '')}, {step['op']}: no {error}") from error

    # -- what there is to see

    def objects(self) -> list[dict[str, Any]]:
        """Return the runs, requests and placements of the status branch; of several runs of a name, the last."""
        found: dict[str, dict[str, Any]] = {}
        for path, data in sorted(self.world.whole_status().files.items()):
            if _KEPT.fullmatch(path):
                one = self._parsed(data)
                name = f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
                other = found.get(name)
                if other is None or other["metadata"]["creationTimestamp"] <= one["metadata"]["creationTimestamp"]:
                    found[name] = one
        return list(found.values())

    def _parsed(self, data: bytes) -> dict[str, Any]:
        if data not in self._read:
            self._read[data] = yaml.load(data, yaml.CSafeLoader)
        return self._read[data]

    def found(self, kinds: tuple[str, ...], name: str) -> dict[str, Any] | None:
        """Return one of the objects by kind and name."""
        return next((one for one in self.objects() if one["kind"] in kinds and one["metadata"]["name"] == name), None)

    def waves(self) -> Facts:
        """Return the waves of every run, from the history of the status branch."""
        found = {}
        for one in self.world.runs():
            path = f"{layout.run_folder(one)}/run.yaml"
            scope = f"{one.key.namespace}/" if one.key.namespace else ""
            found[f"{one.key.kind} {scope}{one.key.name}: waves"] = compare.waves(self._moves(path))
        return found

    def _moves(self, path: str) -> Iterator[tuple[str, str] | None]:
        known: set[tuple[str, str, str]] = set()
        for commit in git(
            self.world.remote, "log", "--reverse", "--diff-filter=AM", "--format=%H", "fleet-status", "--", path
        ).split():
            text = git(self.world.remote, "cat-file", "blob", f"{commit}:{path}")
            moves = list(_moved(self._parsed(text.encode())))
            new = [one for one in moves if one not in known]
            known |= set(new)
            yield from (None for *_, what in new if what == "Succeeded")
            yield from ((stage, cluster) for stage, cluster, what in new if what == "Started")

    # -- the steps

    def _create(self, step: Mapping[str, Any]) -> None:
        body = json.loads(json.dumps(step["object"]))
        if body["kind"] == "MemberCluster":
            self.world.members.setdefault(body["metadata"]["name"], Awkward())
        if body["kind"] in compare.RUNS:
            self.newest = body["metadata"]["name"]
            body["spec"].setdefault("state", STATE_WHEN_OMITTED)
        self._commit(body)
        if "case" in step:
            self._judge_case(step["case"])
            self._remove(_path(body))

    def _patch(self, step: Mapping[str, Any]) -> None:
        name = {"kind": step["kind"], "metadata": {"name": step["name"], "namespace": step.get("namespace", "")}}
        body = self._objects.get(_path(name))
        if body is None and step["kind"] in compare.REQUESTS:
            body = {"apiVersion": "placement.kubernetes-fleet.io/v1beta1", **name}
        if body is None:
            raise NotAScenario(f"step {step['step']} patches {step['kind']} {step['name']}, which nothing created")
        if step.get("type", "merge") != "merge":
            raise NotAScenario(f"step {step['step']}: a patch of type {step['type']} is not known")
        self._commit(_merged(body, step["patch"]))
        if "case" in step and not self._judge_case(step["case"]):
            self._commit(body)

    def _judge_case(self, case: str) -> bool:
        """Note what is said to the file just committed; True when it was accepted."""
        self.world.passes()
        problems = [one["message"] for one in self.world.file(layout.PROBLEMS)["problems"]]
        self.facts[case] = compare.admission(problems)
        return not problems

    def _delete(self, step: Mapping[str, Any]) -> None:
        name = {"kind": step["kind"], "metadata": {"name": step["name"], "namespace": step.get("namespace", "")}}
        if _path(name) in self._objects:
            self._remove(_path(name))
        elif step["kind"] not in compare.REQUESTS:  # a request is nobody's file: there is nothing to remove
            raise NotAScenario(f"step {step['step']} deletes {step['kind']} {step['name']}, which nothing created")

    def _commit(self, body: dict[str, Any]) -> None:
        body["metadata"] = {key: value for key, value in body["metadata"].items() if value}
        self._objects[_path(body)] = body
        self.world.commits(_path(body), json.dumps(body, indent=1))

    def _remove(self, path: str) -> None:
        body = self._objects.pop(path)
        if body["kind"] in compare.RUNS:
            self.removed.add(body["metadata"]["name"])
        self.world.removes(path)

    def _member(self, step: Mapping[str, Any]) -> None:
        member = self.world.member(step["cluster"])
        member.heals()
        match step["mode"]:
            case "ok":
                pass
            case "silent":
                member.falls_silent()
            case "applyfail":
                member.refuses("the fake agent fails to apply it")
            case "unavail":
                member.becomes_unavailable()
            case "hold":
                member.holds()
            case mode:
                raise NotAScenario(f"step {step['step']}: mode {mode} of a member is not known")

    def _sleep(self, step: Mapping[str, Any]) -> None:
        self.world.passes(seconds=float(step["seconds"]))

    def _wait(self, step: Mapping[str, Any]) -> None:
        holds = self._meaning(step["until"])
        if not self.world.waits_until(holds, seconds=_LONGEST_WAIT):
            self.facts[f"step {step['step']}"] = {f"wait until {step['until']}": "never reached"}

    def _meaning(self, words: str) -> Callable[[], bool]:
        for pattern, meaning in _WAITS.items():
            if match := re.fullmatch(pattern, words):
                return lambda: meaning(self, *match.groups())
        self.notes.append(f"waited until nothing more happened, as these words are not known: {words}")
        return lambda: _at_rest(self)

    def _record(self, step: Mapping[str, Any]) -> None:
        assert not self.world.trouble, self.world.trouble
        self.facts[step["label"]] = compare.facts(self.objects())


def vector_steps(scenario: Scenario) -> Iterator[Mapping[str, Any]]:
    """Yield what inputs.yaml of the hash vectors says in words: a strategy, a placement, a run in each namespace."""
    for number, vector in enumerate(scenario.result.get("vectors", ()), start=1):
        member = next(one["object"]["metadata"]["name"] for one in scenario.steps if one["op"] == "create")
        kind = vector["posted"]["kind"] if vector["posted"] else "ConfigMap"
        namespace = f"{member.removesuffix('-a')}-v{number:02}"
        selector = {"group": "", "version": "v1", "kind": kind, "name": "cfg"}
        fixed = {"placementType": "PickFixed", "clusterNames": [member]}
        specs = {
            "ResourcePlacement": {"resourceSelectors": [selector], "policy": fixed, "strategy": {"type": "External"}},
            "StagedUpdateStrategy": {"stages": [{"name": "all", "labelSelector": {}}]},
            "StagedUpdateRun": {"placementName": "p", "stagedRolloutStrategyName": "p"},
        }
        for kind, spec in specs.items():
            metadata = {"name": "r" if kind == "StagedUpdateRun" else "p", "namespace": namespace}
            api = "placement.kubernetes-fleet.io/v1"
            yield {"op": "create", "object": {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}}
        yield {"op": "vector", "label": vector["name"], "namespace": namespace}


def _hash(replay: Replay, step: Mapping[str, Any]) -> None:
    replay.world.passes()
    pin = next(one for one in replay.world.runs() if one.key.namespace == step["namespace"]).pin
    replay.facts[step["label"]] = {"hash": pin.hash} if pin is not None else {}


_STEPS: Mapping[str, Callable[[Replay, Mapping[str, Any]], None]] = {
    "create": Replay._create,
    "kubectl apply": Replay._create,
    "patch": Replay._patch,
    "delete": Replay._delete,
    "member": Replay._member,
    "sleep": Replay._sleep,
    "wait": Replay._wait,
    "record": Replay._record,
    "vector": _hash,
}


# -- what a scenario waits for ------------------------------------------------------------------------------------


def _at_rest(replay: Replay) -> bool:
    return not replay.world.daemons[0].step()


def _condition(one: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    conditions = ((one or {}).get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def _ended(replay: Replay, name: str) -> bool:
    run = replay.found(compare.RUNS, name)
    return bool(_condition(run, "Succeeded")) or _condition(run, "Initialized").get("status") == "False"


def _newest_ended(replay: Replay) -> bool:
    return _ended(replay, replay.newest)


def _initialized(replay: Replay, name: str) -> bool:
    return bool(_condition(replay.found(compare.RUNS, name), "Initialized"))


def _gone(replay: Replay) -> bool:
    return all(one.end is not None for one in replay.world.runs() if one.key.name in replay.removed)


def _progress(replay: Replay, name: str, reason: str) -> bool:
    return bool(_condition(replay.found(compare.RUNS, name), "Progressing").get("reason") == reason)


def _request(replay: Replay, name: str) -> bool:
    """Tell whether a request is there, by its own name or the one that ours has (`differences`), whole or its end."""
    names = (name, name.replace("-after-", "-"))
    requests = [one["metadata"]["name"] for one in replay.objects() if one["kind"] in compare.REQUESTS]
    return any(one.endswith(each) for one in requests for each in names)


def _asks(replay: Replay) -> bool:
    requests = [one for one in replay.objects() if one["kind"] in compare.REQUESTS]
    return any(one["spec"]["parentStageRollout"] == replay.newest for one in requests)


def _cluster(replay: Replay, cluster: str, kind: str, run: str) -> bool:
    return any(move[1:] == (cluster, kind) for move in _moved(replay.found(compare.RUNS, run) or {}))


_WAITS: Mapping[str, Callable[..., bool]] = {
    r"all member clusters Joined=True": _at_rest,
    r"placement Scheduled=True at its generation": _at_rest,
    r"cluster (\S+) has condition (\S+) in run (\S+)": _cluster,
    r"approval request (\S+) exists": _request,
    r"request (\S+)": _request,
    r"request": _asks,
    r"a new request with another uid": _asks,
    r"run (\S+) has Succeeded True or False \(or Initialized False\)": _ended,
    r"run done": _newest_ended,
    r"run gone": _gone,
    r"run (\S+) has Initialized condition": _initialized,
    r"all runs have Initialized": _at_rest,
    r"run (\S+) Progressing reason (\S+)": _progress,
}


def _moved(run: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (stage, cluster, condition type) for every condition of a run's clusters."""
    status = run.get("status") or {}
    for stage in [*status.get("stagesStatus", ()), status.get("deletionStageStatus") or {}]:
        for cluster in stage.get("clusters") or ():
            for condition in cluster.get("conditions") or ():
                yield stage["stageName"], cluster["clusterName"], condition["type"]


# -- objects as files ---------------------------------------------------------------------------------------------


def _path(body: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    scope = metadata.get("namespace") or "_cluster"
    if body["kind"] == "MemberCluster":
        return f"clusters/{metadata['name']}.yaml"
    return f"{_FOLDERS.get(body['kind'], 'resources')}/{scope}/{body['kind']}-{metadata['name']}.json"


def _merged(value: Any, patch: Any) -> Any:
    """Return a value after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    base = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            base.pop(key, None)
        else:
            base[key] = _merged(base.get(key), change)
    return base

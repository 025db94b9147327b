"""The program that a kubeconfig names for its credentials (`exec`): started, given so long, killed, read.

The official client reads what the kubeconfig says of the program. It would also start it, but then wait for it without
end, so that is done here, in the same way: environment, `KUBERNETES_EXEC_INFO`, and what the answer must hold. A
daemon has nobody at a keyboard: standard input is closed, and the program is told so.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

import structlog

from reconciler.errors import TemporaryError, UsageError
from reconciler.redact import line

_log = structlog.get_logger(__name__)

_CONFIGURATION = "client.authentication.k8s.io/exec"


class Provider(Protocol):
    """What is used of the client's `ExecProvider`."""

    args: list[str]
    env: dict[str, str]
    cwd: str | None
    api_version: str
    cluster: Any


def status_of(where: str, provider: Provider, seconds: float) -> Mapping[str, Any]:
    """Return the `status` of the `ExecCredential` that the program prints.

    Raises:  TemporaryError when it fails, or does not end in time (it is killed then, with all that it started in its
             process group), UsageError when it prints something else, OSError when it cannot be started.
    """
    name = line(str(provider.args[0]), 200)
    if not all(isinstance(one, str) for one in (*provider.args, *provider.env.values())):
        raise UsageError(f"{where}: the arguments and the environment of program {name} (exec) must be texts")
    try:
        code, printed, said = _run(provider, seconds)
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(
            f"{where}: program {name} (exec) did not end within {seconds:g} s (timeoutSeconds) and was killed"
        ) from error
    if code != 0:
        _say(name, code, line(said.strip()))
        raise TemporaryError(f"{where}: program {name} (exec) ended with {code}; what it said is in the log alone")
    return _status(f"{where}: program {name} (exec)", printed, provider.api_version)


@lru_cache(maxsize=256)
def _say(program: str, status: int, said: str) -> None:
    """Log what a program said, once for the same; it may be a secret, and errors of ours reach the status branch."""
    _log.warning("a program gave no credentials", program=program, status=status, said=said)


def _run(provider: Provider, seconds: float) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    with subprocess.Popen(  # noqa: S603 - the operator allowed it (allowExec)
        provider.args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=provider.cwd,
        env={**provider.env, "KUBERNETES_EXEC_INFO": json.dumps(_asked(provider))},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            printed, said = process.communicate(timeout=seconds)
        except BaseException:
            with suppress(ProcessLookupError, PermissionError):  # ended by itself in the meantime
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, printed, said


def _asked(provider: Provider) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": False}
    if provider.cluster:
        cluster = dict(provider.cluster.value)
        extensions = [one for one in cluster.get("extensions") or () if one["name"] == _CONFIGURATION]
        spec["cluster"] = {**cluster, **({"config": extensions[0]["extension"]} if extensions else {})}
    return {"apiVersion": provider.api_version, "kind": "ExecCredential", "spec": spec}


def _status(program: str, printed: str, version: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(printed)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{program} answered with something else than JSON") from error
    for key in ("apiVersion", "kind", "status"):
        if not isinstance(answer, dict) or key not in answer:
            raise UsageError(f"{program} gave a malformed response: missing key '{key}'")
    if answer["apiVersion"] != version:
        raise UsageError(f"{program} answered in apiVersion {line(str(answer['apiVersion']))}, not {version}")
    if not isinstance(answer["status"], dict):
        raise UsageError(f"{program} gave a malformed response: status is no mapping")
    return answer["status"]

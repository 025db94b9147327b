"""Members that are Kubernetes clusters, by server-side apply and an inventory in the ApplySet convention of kubectl.

How to reach a member is the operator's to say: `{type: kubernetes, kubeconfig: FILE, context: NAME}` and what
`settings.py` lists. Nothing of it ever comes from the watched repository.
"""

import re
from collections.abc import Mapping
from typing import Any

from reconciler.delivery.base import Delivery
from reconciler.delivery.kubernetes import settings as member_settings
from reconciler.delivery.kubernetes.member import KubernetesDelivery
from reconciler.errors import UsageError

_CLUSTER = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")  # it names a file of the state directory


def open_member(cluster: str, settings: Mapping[str, Any]) -> Delivery:
    """Return the delivery to a member; its kubeconfig is read when it is first used.

    Raises UsageError, naming the setting, for settings that a kubernetes member does not take.
    """
    if not _CLUSTER.fullmatch(cluster) or ".." in cluster:
        raise UsageError(f"delivery for cluster {cluster!r}: that is no name of a cluster")
    return KubernetesDelivery(member_settings.read(cluster, settings))

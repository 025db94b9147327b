"""In which order the objects of a content are written: KubeFleet's waves, by kind."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from reconciler.core.model import Body, Key
from reconciler.delivery.base import key_of

_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_WAVES: tuple[dict[str, str], ...] = (
    {"": "Namespace", "scheduling.k8s.io": "PriorityClass"},
    {
        "": "ResourceQuota LimitRange ServiceAccount Secret ConfigMap PersistentVolume PersistentVolumeClaim",
        "networking.k8s.io": "NetworkPolicy IngressClass",
        "policy": "PodSecurityPolicy PodDisruptionBudget",
        "storage.k8s.io": "StorageClass",
        "apiextensions.k8s.io": "CustomResourceDefinition",
    },
    {_RBAC: "ClusterRole Role"},
    {_RBAC: "ClusterRoleBinding RoleBinding"},
    {
        "": "Service Pod ReplicationController",
        "apps": "DaemonSet ReplicaSet Deployment StatefulSet",
        "autoscaling": "HorizontalPodAutoscaler",
        "batch": "Job CronJob",
        "networking.k8s.io": "Ingress",
    },
    {
        "apiregistration.k8s.io": "APIService",
        _ADMISSION: "ValidatingWebhookConfiguration MutatingWebhookConfiguration",
    },
)
_WAVE_OF = {
    (group, kind): number
    for number, wave in enumerate(_WAVES)
    for group, kinds in wave.items()
    for kind in kinds.split()
}


def in_waves(objects: Iterable[Body]) -> Iterator[tuple[Body, ...]]:
    """Give the objects wave by wave, each wave in the order of the content; unknown kinds come last."""
    ordered = sorted(objects, key=_wave_of)
    for _, wave in groupby(ordered, key=_wave_of):
        yield tuple(wave)


def _wave_of(body: Body) -> int:
    return _wave_of_key(key_of(body))


def keys_in_waves(keys: Iterable[Key]) -> list[tuple[Key, ...]]:
    """Return keys wave by wave, in the order given within each."""
    ordered = sorted(keys, key=_wave_of_key)
    return [tuple(wave) for _, wave in groupby(ordered, key=_wave_of_key)]


def _wave_of_key(key: Key) -> int:
    return _WAVE_OF.get((key.group, key.kind), len(_WAVES))

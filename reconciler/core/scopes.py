"""Which of the kinds that come with Kubernetes live in a namespace, and which do not.

Kinds that are in neither table (custom resources) are judged elsewhere: by their CustomResourceDefinition
where the repository has one, else by whether the manifest names a namespace.
"""

from collections.abc import Mapping
from typing import Any


def _pairs(group: str, kinds: str) -> frozenset[tuple[str, str]]:
    return frozenset((group, kind) for kind in kinds.split())


CLUSTER_SCOPED: frozenset[tuple[str, str]] = (
    _pairs("", "ComponentStatus Namespace Node PersistentVolume")
    | _pairs(
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration"
        " ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration",
    )
    | _pairs("apiextensions.k8s.io", "CustomResourceDefinition")
    | _pairs("apiregistration.k8s.io", "APIService")
    | _pairs("certificates.k8s.io", "CertificateSigningRequest ClusterTrustBundle")
    | _pairs("flowcontrol.apiserver.k8s.io", "FlowSchema PriorityLevelConfiguration")
    | _pairs("internal.apiserver.k8s.io", "StorageVersion")
    | _pairs("networking.k8s.io", "IngressClass IPAddress ServiceCIDR")
    | _pairs("node.k8s.io", "RuntimeClass")
    | _pairs("policy", "PodSecurityPolicy")
    | _pairs("rbac.authorization.k8s.io", "ClusterRole ClusterRoleBinding")
    | _pairs("resource.k8s.io", "DeviceClass DeviceTaintRule ResourceSlice")
    | _pairs("scheduling.k8s.io", "PriorityClass")
    | _pairs("storage.k8s.io", "CSIDriver CSINode StorageClass VolumeAttachment VolumeAttributesClass")
    | _pairs("storagemigration.k8s.io", "StorageVersionMigration")
)
"""(group, kind) of what has no namespace; the core group is empty."""

NAMESPACED: frozenset[tuple[str, str]] = (
    _pairs(
        "",
        "Binding ConfigMap Endpoints Event LimitRange PersistentVolumeClaim Pod PodTemplate ReplicationController"
        " ResourceQuota Secret Service ServiceAccount",
    )
    | _pairs("apps", "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet")
    | _pairs("authorization.k8s.io", "LocalSubjectAccessReview")
    | _pairs("autoscaling", "HorizontalPodAutoscaler")
    | _pairs("batch", "CronJob Job")
    | _pairs("certificates.k8s.io", "PodCertificateRequest")
    | _pairs("coordination.k8s.io", "Lease LeaseCandidate")
    | _pairs("discovery.k8s.io", "EndpointSlice")
    | _pairs("events.k8s.io", "Event")
    | _pairs("extensions", "Ingress")
    | _pairs("networking.k8s.io", "Ingress NetworkPolicy")
    | _pairs("policy", "Eviction PodDisruptionBudget")
    | _pairs("rbac.authorization.k8s.io", "Role RoleBinding")
    | _pairs("resource.k8s.io", "ResourceClaim ResourceClaimTemplate")
    | _pairs("storage.k8s.io", "CSIStorageCapacity")
)
"""(group, kind) of what lives in a namespace; the core group is empty."""

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")


def defined_scope(body: Mapping[str, Any]) -> tuple[tuple[str, str], bool] | None:
    """Return (group, kind) that a CustomResourceDefinition defines, and whether it lives in a namespace.

    None for one that does not say it: the member's API server will.
    """
    spec = body.get("spec")
    names = spec.get("names") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(names, Mapping):
        return None
    group, kind, scope = spec.get("group"), names.get("kind"), spec.get("scope")
    if not isinstance(group, str) or not isinstance(kind, str) or scope not in ("Namespaced", "Cluster"):
        return None
    return (group, kind), scope == "Namespaced"

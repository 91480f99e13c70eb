"""Objects against the schemas of Kubernetes itself, by `kubernetes-validate`, which brings them along.

Kinds that operators define are not in there; CUSTOM_KINDS lists those that we use, and nothing checks them but what is
written here.
"""

import pathlib
import sys

from cases import Skip

# The oldest that has all we use (preStop sleep), and the newest that the package knows.
OLDEST = "1.30"

# Fields of `spec`, as far as we use them: a misspelt one would be dropped in silence.
CUSTOM_KINDS = {
    "Certificate": {"commonName", "duration", "isCA", "issuerRef", "privateKey", "renewBefore", "secretName", "uris",
                    "usages"},
    "Issuer": {"ca", "selfSigned"},
    "PodMonitor": {"jobLabel", "podMetricsEndpoints", "selector"},
    "PrometheusRule": {"groups"},
    "ScaledObject": {"cooldownPeriod", "fallback", "maxReplicaCount", "minReplicaCount", "pollingInterval",
                     "scaleTargetRef", "triggers"},
    "LeaderWorkerSet": {"leaderWorkerTemplate", "networkConfig", "replicas", "rolloutStrategy", "startupPolicy"},
}


def load(packages):
    """The module, from where `orrery check deploy` puts it, or from the system."""
    if pathlib.Path(packages).is_dir():
        sys.path.append(str(packages))
    try:
        import kubernetes_validate  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise Skip(f"{error}: `orrery check deploy` installs tests/deploy/requirements.txt, with pip") from error
    return kubernetes_validate


def objects_follow_the_schemas(manifests, validator, version):
    wrong = []
    for manifest in manifests.objects:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in CUSTOM_KINDS:
            unknown = set(manifest["spec"]) - CUSTOM_KINDS[manifest["kind"]]
            wrong += [f"{name}: spec.{field} is not expected" for field in sorted(unknown)]
            continue
        try:
            validator.validate(manifest, version, strict=True)
        except validator.ValidationError as error:
            wrong.append(f"{name}: {'.'.join(str(part) for part in error.path)}: {error.message}")
        except validator.SchemaNotFoundError:
            wrong.append(f"{name}: Kubernetes {version} has no {manifest['apiVersion']} {manifest['kind']}")
    return wrong

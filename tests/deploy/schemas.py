"""Objects against the schemas of Kubernetes itself, by `kubernetes-validate`, which brings them along.

Kinds that operators define are not in there; CUSTOM_KINDS lists those that we use, and nothing checks them but what is
written here.
"""

import json
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
    "ScaledObject": {"advanced", "fallback", "maxReplicaCount", "minReplicaCount", "pollingInterval",
                     "scaleTargetRef", "triggers"},
    "LeaderWorkerSet": {"leaderWorkerTemplate", "networkConfig", "replicas", "rolloutStrategy", "startupPolicy"},
}


class Validator:
    """`packages`: where `orrery check deploy` puts the module, if the system does not have it."""

    def __init__(self, packages):
        if pathlib.Path(packages).is_dir():
            sys.path.append(str(packages))
        try:
            import kubernetes_validate  # pylint: disable=import-outside-toplevel
        except ImportError as error:
            raise Skip(f"{error}: `orrery check deploy` installs tests/deploy/requirements.txt, with pip") from error
        self._module = kubernetes_validate
        self._known = {}  # most objects are the same in every overlay, and each takes a third of a second
        self.versions = (OLDEST, kubernetes_validate.latest_version())

    def problem(self, manifest, version):
        """What is wrong with an object of a built-in kind, or None."""
        key = (version, json.dumps(manifest, sort_keys=True))
        if key not in self._known:
            self._known[key] = self._validate(manifest, version)
        return self._known[key]

    def _validate(self, manifest, version):
        try:
            self._module.validate(manifest, version, strict=True)
        except self._module.ValidationError as error:
            return f"{'.'.join(str(part) for part in error.path)}: {error.message}"
        except self._module.SchemaNotFoundError:
            return f"there is no {manifest['apiVersion']} {manifest['kind']}"
        return None


def objects_follow_the_schemas(manifests, validator):
    wrong = []
    for manifest in manifests.objects:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in CUSTOM_KINDS:
            unknown = set(manifest["spec"]) - CUSTOM_KINDS[manifest["kind"]]
            wrong += [f"{name}: spec.{field} is not expected" for field in sorted(unknown)]
            continue
        for version in validator.versions:
            if problem := validator.problem(manifest, version):
                wrong.append(f"{name}, Kubernetes {version}: {problem}")
    return wrong

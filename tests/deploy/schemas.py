"""Objects against the schemas of Kubernetes itself, by `kubernetes-validate`, which brings them along.

Kinds that operators define are not in there: custom_kinds.py has the fields of those that we use.
"""

import json
import pathlib
import sys

from cases import Skip
from custom_kinds import SHAPES, shape_problems
from objects import title

# The oldest that has all we use (preStop sleep), and the newest that the package knows.
OLDEST = "1.30"


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
        built_in = manifest
        if manifest["kind"] in SHAPES:
            wrong += [f"{title(manifest)}: {problem}"
                      for problem in shape_problems(manifest["spec"], SHAPES[manifest["kind"]], "spec")]
            if manifest["kind"] != "LeaderWorkerSet":
                continue
            template = manifest["spec"]["leaderWorkerTemplate"]["workerTemplate"]
            built_in = {"apiVersion": "v1", "kind": "Pod", **template}
        for version in validator.versions:
            if problem := validator.problem(built_in, version):
                wrong.append(f"{title(manifest)}, Kubernetes {version}: {problem}")
    return wrong

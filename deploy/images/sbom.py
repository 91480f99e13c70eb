"""The bill of materials of an image: SPDX 2.3 as JSON, the same bytes for the same contents.

    text = sbom("orrery", "0.1.0", packages, libraries, epoch)

Lists the Debian packages that the image has files or code of, and the libraries that come from elsewhere (CUDA).
"""

import dataclasses
import datetime
import hashlib
import json
import re


@dataclasses.dataclass(frozen=True, order=True)
class Library:
    """One that no Debian package has."""
    name: str  # libcudart.so.13
    version: str
    supplier: str
    sha256: str


def utc(epoch):
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _spdx_id(name):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def _package(spdx_id, name, version, supplier, **more):
    return {
        "SPDXID": spdx_id,
        "name": name,
        "versionInfo": version,
        "supplier": supplier,
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "filesAnalyzed": False,
        **more,
    }


def sbom(name, version, packages, libraries, epoch):
    image = _spdx_id(name)
    parts = [_package(image, name, version, "NOASSERTION", primaryPackagePurpose="CONTAINER")]
    parts[0]["licenseDeclared"] = "Apache-2.0"
    for package in sorted(packages):
        reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                     "referenceLocator": package.purl}
        parts.append(_package(_spdx_id("deb-" + package.name), package.name, package.version,
                              "Organization: Debian", externalRefs=[reference],
                              sourceInfo=f"built from {package.source} {package.source_version}"))
    for library in sorted(libraries):
        parts.append(_package(_spdx_id("lib-" + library.name), library.name, library.version, library.supplier,
                              checksums=[{"algorithm": "SHA256", "checksumValue": library.sha256}]))
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                  "relatedSpdxElement": image}]
    relations += [{"spdxElementId": image, "relationshipType": "CONTAINS", "relatedSpdxElement": part["SPDXID"]}
                  for part in parts[1:]]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return json.dumps({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}-{version}-{digest}",
        "creationInfo": {"created": utc(epoch), "creators": ["Tool: deploy/images/build"]},
        "packages": parts,
        "relationships": relations,
    }, indent=1) + "\n"

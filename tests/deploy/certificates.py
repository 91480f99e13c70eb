"""Certificates that cert-manager makes. Each check returns what is wrong, one sentence each."""

import cluster_text
from manifests import ROLES
from mounts import cluster_file
from objects import title
from units import seconds

# Members call and are called; clients only call.
USAGES = {"client": {"digital signature", "client auth"}} | {
    role: {"digital signature", "client auth", "server auth"} for role in ROLES}
CA = "orrery-ca"
KEY = {"algorithm": "ECDSA", "size": 256}


def certificates_are_those_of_their_roles(manifests):
    """Where cert-manager makes any, one for each role that is there, and one for clients."""
    if not manifests.of("Certificate"):
        return []
    clusters = {each.role: cluster_file(manifests, each) for each in manifests.members()}
    names = {role: f"spiffe://{cluster_text.first(cluster, 'tls', 'trust_domain')}/{role}"
             for role, cluster in clusters.items()}
    names["client"] = cluster_text.first(clusters["router"], "tls", "client")
    wrong = [f"Certificate {each['metadata']['name']} is nobody's" for each in manifests.of("Certificate")
             if each["metadata"]["name"] not in {CA, *(f"orrery-{role}-tls" for role in names)}]
    for role, name in sorted(names.items()):
        certificate = manifests.find("Certificate", f"orrery-{role}-tls")
        if certificate is None:
            wrong.append(f"there is no Certificate orrery-{role}-tls")
            continue
        spec = certificate["spec"]
        for field, found, expected in (
                ("secretName", spec.get("secretName"), f"orrery-{role}-tls"),
                ("uris", spec.get("uris"), [name]),
                ("usages", set(spec.get("usages", [])), USAGES[role]),
                ("privateKey", spec.get("privateKey"), KEY | {"rotationPolicy": "Always"}),
                ("isCA", spec.get("isCA", False), False),
                ("issuerRef", spec.get("issuerRef"), {"name": CA, "kind": "Issuer"})):
            if found != expected:
                wrong.append(f"{title(certificate)}: {field} is {found}, must be {expected}")
    return wrong


def issuers_exist(manifests):
    wrong = []
    secrets = {each["spec"]["secretName"] for each in manifests.of("Certificate") if each["spec"].get("isCA")}
    for certificate in manifests.of("Certificate"):
        issuer = certificate["spec"]["issuerRef"]
        if manifests.find(issuer.get("kind", "Issuer"), issuer.get("name")) is None:
            wrong.append(f"{title(certificate)}: there is no {issuer.get('kind', 'Issuer')} {issuer.get('name')}")
        duration, ahead = (certificate["spec"].get(field, "0s") for field in ("duration", "renewBefore"))
        if not 0 < seconds(ahead) < seconds(duration):
            wrong.append(f"{title(certificate)}: is renewed {ahead} before its end, and is for {duration}")
        # Another key would be another CA (deploy/README.md, Rotate certificates).
        key = KEY | {"rotationPolicy": "Never"}
        if certificate["spec"].get("isCA") and certificate["spec"].get("privateKey") != key:
            wrong.append(f"{title(certificate)}: privateKey is {certificate['spec'].get('privateKey')}, must be {key}")
        if not certificate["spec"].get("commonName") and not certificate["spec"].get("uris"):
            wrong.append(f"{title(certificate)}: is for no name")
    for issuer in manifests.of("Issuer") + manifests.of("ClusterIssuer"):
        secret = issuer["spec"].get("ca", {}).get("secretName")
        if set(issuer["spec"]) != {"selfSigned"} and secret not in secrets:
            wrong.append(f"{title(issuer)}: no Certificate of a CA makes its secret {secret}")
    return wrong

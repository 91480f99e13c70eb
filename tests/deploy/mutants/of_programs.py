"""command_lines.py, certificates.py, custom_kinds.py, schemas.py: what programs and operators are told."""

import contextlib
import pathlib
import tempfile

import certificates
import command_lines
import schemas
from mutants.mutation import container, edit_args, edit_cluster_file, expect_each, spec, workload

PACKAGES = pathlib.Path(__file__).resolve().parents[3] / ".orrery" / "python"


def commands_of_others(overlays):
    def append(name, argument):
        return lambda m: container(m, name)["args"].append(argument)
    expect_each(command_lines.commands_are_those_of_their_roles, overlays.cpu, [
        (lambda m: container(m, "router").update(command=["/usr/bin/routr"]), "starts ['/usr/bin/routr']"),
        (lambda m: container(m, "router").update(command=["/bin/router"]), "should be /usr/bin/router"),
        (lambda m: container(m, "attention").update(command=["/usr/bin/expert"]), "should be /usr/bin/attention"),
        (lambda m: container(m).pop("command"), "starts []"),
        (lambda m: container(m)["command"].append("--reflection"), "should be /usr/bin/expert"),
        (append("expert", "-bogus=1"), "-bogus=1 is no flag"),
        (append("expert", "junk"), "junk is no flag"),
        (append("expert", "--"), "-- is no flag"),
        (append("expert", "--cluster=/etc/orrery/cluster.txtpb"), "--cluster is there twice"),
        (append("expert", "--name=expert-0"), "--name is not for pods"),
        (append("expert", "--die_at=step:1"), "--die_at is not for pods"),
        (lambda m: container(m).pop("args"), "--cluster names no file"),
        (lambda m: edit_args(m, "expert", "0.0.0.0:7420", "127.0.0.1:7420"), "--listen_address is 127.0.0.1:7420"),
        (lambda m: edit_args(m, "expert", "0.0.0.0:7420", "0.0.0.0:7421"), "--listen_address is 0.0.0.0:7421"),
        (lambda m: edit_args(m, "expert", "0.0.0.0:9400", "localhost:9400"), "--monitoring_address is localhost:9400"),
        (lambda m: edit_args(m, "expert", "0.0.0.0:9400", "0.0.0.0:7420"), "--monitoring_address is 0.0.0.0:7420"),
    ])
    expect_each(command_lines.commands_are_those_of_their_roles, overlays.packed, [
        (lambda m: container(m, "pack").update(command=["/usr/bin/pack"]), "Job pack", "starts ['/usr/bin/pack']"),
        (append("pack", "verify"), "verify is no flag"),
    ])


class FakePrograms:
    """One that knows these flags, and says what real ones say, but for a value that it refuses."""

    def __init__(self, folder):
        self._path = pathlib.Path(folder) / "program"
        self._path.write_text("""#!/bin/sh
exec >&2
for last; do :; done
case "$*" in *bf17*) echo "precision 'bf17' is not known"; exit 2 ;; esac
for role in router attention expert; do echo "has no $role named \\"nobody\\""; done
echo "cannot open ${last#*=}"
""", encoding="utf-8")
        self._path.chmod(0o755)

    def path(self, _):
        return str(self._path)

    @staticmethod
    def help(*_):
        return "\n".join(f"  --{flag}" for flag in (
            "cluster", "listen_address", "monitoring_address", "model", "out", "precision", "row_format", "verify"))


@contextlib.contextmanager
def fake_programs():
    with tempfile.TemporaryDirectory(prefix="orrery-programs-") as folder:
        yield FakePrograms(folder)


def arguments_that_programs_refuse(overlays):
    with fake_programs() as programs:
        def check(manifests):
            return command_lines.arguments_are_taken(manifests, programs)
        expect_each(check, overlays.packed, [
            (lambda m: container(m)["args"].append("--clusterx=1"), "/usr/bin/expert has no flag --clusterx"),
            (lambda m: container(m)["args"].append("--listen=1"), "/usr/bin/expert has no flag --listen"),
            (lambda m: edit_args(m, "pack", "precision=bf16", "precision=bf17"), "Job pack", "'bf17' is not known"),
        ])


def certificates_of_others(overlays):
    def certificate(m, role="expert"):
        return spec(m, "Certificate", f"orrery-{role}-tls")
    expect_each(certificates.certificates_are_those_of_their_roles, overlays.certified, [
        (lambda m: m.objects.remove(m.find("Certificate", "orrery-expert-tls")), "no Certificate orrery-expert-tls"),
        (lambda m: m.find("Certificate", "orrery-expert-tls")["metadata"].update(name="expert"), "expert is nobody's"),
        (lambda m: certificate(m).update(secretName="orrery-experts-tls"), "secretName is orrery-experts-tls"),
        (lambda m: certificate(m).update(uris=["spiffe://orrery/experts"]), "must be ['spiffe://orrery/expert']"),
        (lambda m: certificate(m).update(uris=["spiffe://orrery/router", "spiffe://orrery/expert"]), "uris is"),
        (lambda m: certificate(m).update(usages=["client auth"]), "usages is"),
        (lambda m: certificate(m).update(isCA=True), "isCA is True"),
        (lambda m: certificate(m)["privateKey"].update(size=224), "privateKey is", "224"),
        (lambda m: certificate(m)["privateKey"].update(rotationPolicy="Never"), "must be", "Always"),
        (lambda m: certificate(m).update(issuerRef={"name": "orrery-self-signed", "kind": "Issuer"}), "issuerRef is"),
        (lambda m: certificate(m, "client").update(uris=["spiffe://orrery/clients"]), "orrery-client-tls: uris is"),
        (lambda m: certificate(m, "client")["usages"].append("server auth"), "orrery-client-tls: usages is"),
        (lambda m: edit_cluster_file(m, 'trust_domain: "orrery"', 'trust_domain: "other"'), "spiffe://other/expert"),
        (lambda m: edit_cluster_file(m, "spiffe://orrery/client", "spiffe://orrery/me"),
         "must be ['spiffe://orrery/me']"),
    ])
    expect_each(certificates.issuers_exist, overlays.certified, [
        (lambda m: certificate(m)["issuerRef"].update(name="nobody"), "there is no Issuer nobody"),
        (lambda m: certificate(m)["issuerRef"].update(kind="ClusterIssuer"), "there is no ClusterIssuer orrery-ca"),
        (lambda m: certificate(m).update(renewBefore="9999h"), "is renewed 9999h before its end"),
        (lambda m: certificate(m).pop("renewBefore"), "is renewed 0s before its end"),
        (lambda m: spec(m, "Issuer", "orrery-ca").pop("ca"), "makes its secret None"),
        (lambda m: spec(m, "Certificate", "orrery-ca").pop("privateKey"), "privateKey is None", "Never"),
        (lambda m: spec(m, "Certificate", "orrery-ca").pop("commonName"), "orrery-ca: is for no name"),
        (lambda m: spec(m, "Issuer", "orrery-ca")["ca"].update(secretName="other"), "makes its secret other"),
        (lambda m: spec(m, "Certificate", "orrery-ca").pop("isCA"),
         "no Certificate of a CA makes its secret orrery-ca"),
    ])


def fields_that_no_schema_has(overlays):
    validator = schemas.Validator(PACKAGES)

    def follow(manifests):
        return schemas.objects_follow_the_schemas(manifests, validator)

    def endpoint(m):
        return spec(m, "PodMonitor", "orrery")["podMetricsEndpoints"][0]

    def certificate(m):
        return spec(m, "Certificate", "orrery-expert-tls")

    def trigger(m):
        return spec(m, "ScaledObject", "attention")["triggers"][0]
    expect_each(follow, overlays.cpu, [
        (lambda m: workload(m).pod.update(terminationGracePeriod=45), "StatefulSet expert", "terminationGracePeriod"),
        (lambda m: workload(m).spec.update(replicas="four"), "StatefulSet expert", "four"),
    ])
    expect_each(follow, overlays.monitored, [
        (lambda m: spec(m, "PodMonitor", "orrery").update(selectors={}), "PodMonitor orrery: spec.selectors"),
        (lambda m: endpoint(m).update(intervall="5s"), "spec.podMetricsEndpoints[0].intervall is not expected"),
        (lambda m: endpoint(m).update(interval=5), "interval is 5, should be of type str"),
        (lambda m: spec(m, "PrometheusRule", "orrery")["groups"][0]["rules"][0].update(expression="1"), "expression"),
        (lambda m: spec(m, "PrometheusRule", "orrery")["groups"][1]["rules"][0]["labels"].update(severity="pag"),
         "pag,"),
    ])
    expect_each(follow, overlays.certified, [
        (lambda m: certificate(m)["issuerRef"].update(nme="x"), "spec.issuerRef.nme is not expected"),
        (lambda m: certificate(m)["usages"].append("sever auth"), "sever auth"),
        (lambda m: certificate(m)["privateKey"].update(rotationpolicy="Always"), "rotationpolicy"),
    ])
    expect_each(follow, overlays.keda, [
        (lambda m: trigger(m)["metadata"].update(treshold="1"), "treshold is not expected"),
        (lambda m: trigger(m)["metadata"].update(threshold=5), "threshold is 5, should be of type str"),
        (lambda m: trigger(m).update(metricType="Value"), "metricType is Value"),
        (lambda m: spec(m, "ScaledObject", "attention").update(minReplicaCount=True), "minReplicaCount is True"),
    ])
    expect_each(follow, overlays.lws, [
        (lambda m: workload(m).spec["leaderWorkerTemplate"].update(sice=4), "sice is not expected"),
        (lambda m: workload(m).pod.update(terminationGracePeriod=45),
         "LeaderWorkerSet expert", "terminationGracePeriod"),
    ])


CASES = [commands_of_others, arguments_that_programs_refuse, certificates_of_others, fields_that_no_schema_has]

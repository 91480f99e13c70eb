"""network.py: who may talk to whom."""

import network
from mutants.mutation import expect_each, spec

PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}


def policy(m, name):
    return spec(m, "NetworkPolicy", name)


def add(m, selector, **rules):
    m.objects.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "another"},
                      "spec": {"podSelector": selector, **rules}})


def edges_too_few(overlays):
    expect_each(network.edges_are_those_of_the_design, overlays.cpu, [
        (lambda m: policy(m, "expert")["ingress"][0]["from"].pop(0),
         "router may not call expert at 7420/TCP: no ingress"),
        (lambda m: m.objects.remove(m.find("NetworkPolicy", "default-deny")), "denies what the others do not allow"),
        (lambda m: policy(m, "default-deny").update(podSelector={"matchLabels": {"a": "b"}}), "denies what the others"),
        (lambda m: policy(m, "default-deny").pop("policyTypes"), "denies what the others"),
        (lambda m: policy(m, "attention").update(policyTypes=["Ingress"]),
         "attention may not call expert", "no egress"),
        (lambda m: policy(m, "attention").update(policyTypes=["Egress"]),
         "router may not call attention", "no ingress"),
        (lambda m: policy(m, "dns")["egress"][0]["ports"].pop(0), "router may not call dns at 53/UDP"),
        (lambda m: policy(m, "dns").update(podSelector={"matchLabels": {"app.kubernetes.io/component": "router"}}),
         "expert may not call dns"),
        (lambda m: policy(m, "attention")["egress"][0]["ports"][0].update(protocol="UDP"), "at 7420/TCP: no egress"),
        (lambda m: policy(m, "monitoring")["ingress"][0]["from"][0].update(podSelector={"matchLabels": {"x": "y"}}),
         "prometheus may not call"),
    ])
    expect_each(network.edges_are_those_of_the_design, overlays.packed, [
        (lambda m: policy(m, "dns")["podSelector"].update(matchLabels={"app.kubernetes.io/name": "orrery"}),
         "pack may not call dns"),
    ])


def edges_too_many(overlays):
    anywhere = {"policyTypes": ["Egress"], "egress": [{}]}
    expect_each(network.edges_are_those_of_the_design, overlays.cpu, [
        (lambda m: policy(m, "attention")["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
         "attention may call", "0.0.0.0/0"),
        (lambda m: policy(m, "attention")["egress"][0]["ports"][0].update(protocol="UDP"), "at 7420/UDP"),
        (lambda m: policy(m, "attention")["egress"][0]["ports"].append({"port": 443}), "at 443/TCP"),
        (lambda m: policy(m, "attention")["egress"][0].pop("ports"), "attention may call expert at any port"),
        (lambda m: policy(m, "attention")["ingress"][0].pop("from"), "anybody may call attention"),
        (lambda m: policy(m, "expert")["ingress"][0].update({"from": [{"podSelector": {}}]}), "whoever", "call expert"),
        (lambda m: policy(m, "dns")["egress"][0]["to"][0].pop("podSelector"), "router may call whoever", "kube-system"),
        (lambda m: policy(m, "dns")["egress"][0]["to"][0]["namespaceSelector"]["matchLabels"].update(a="b"),
         "'a': 'b'"),
        (lambda m: policy(m, "router")["ingress"][0]["from"].append({"namespaceSelector": {}}), "may call router"),
        (lambda m: policy(m, "dns")["egress"].append({}), "router may call anybody at any port"),
        (lambda m: add(m, {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "Exists"}]},
                       **anywhere), "expert may call anybody"),
        (lambda m: add(m, {"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}, **anywhere),
         "expert may call anybody"),
        (lambda m: add(m, {"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["x"]}]}, **anywhere),
         "expert may call anybody"),
        # Without policyTypes, a policy is about egress if it has any.
        (lambda m: add(m, {}, egress=[{"to": [PEER]}]), "expert may call whoever"),
    ])
    # One of two generations only, and a Job.
    expect_each(network.edges_are_those_of_the_design, overlays.blue_green, [
        (lambda m: add(m, {"matchLabels": {"app.kubernetes.io/instance": "orrery"}}, **anywhere),
         "attention may call anybody"),
        (lambda m: add(m, {"matchLabels": {"app.kubernetes.io/instance": "orrery-green"}}, **anywhere),
         "attention-green may call anybody"),
    ])
    expect_each(network.edges_are_those_of_the_design, overlays.packed, [
        (lambda m: add(m, {"matchLabels": {"app.kubernetes.io/name": "orrery-pack"}}, **anywhere),
         "pack may call anybody"),
    ])


def selectors_that_nothing_knows(overlays):
    for selector in ({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}, {"matchLabel": {}}):
        manifests = overlays.cpu.copy()
        add(manifests, selector, policyTypes=["Ingress"])
        try:
            network.edges_are_those_of_the_design(manifests)
        except ValueError:
            continue
        raise AssertionError(f"{selector} was taken")


CASES = [edges_too_few, edges_too_many, selectors_that_nothing_knows]

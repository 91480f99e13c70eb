"""Who may talk to whom, as network policies have it. A check returns what is wrong, one sentence each.

An edge is (who calls, who is called, at which port). Our ends are workloads, so that two generations of a role are two.
"""

# The edges of the design, by role; any workload may ask the DNS. Anything else is refused.
EDGES = {
    ("clients", "router", "7400/TCP"),
    ("router", "router", "7400/TCP"),
    ("router", "attention", "7410/TCP"),
    ("router", "expert", "7420/TCP"),
    ("attention", "expert", "7420/TCP"),
    ("expert", "expert", "7420/TCP"),
    ("prometheus", "router", "9400/TCP"),
    ("prometheus", "attention", "9400/TCP"),
    ("prometheus", "expert", "9400/TCP"),
}
# NCCL meets at ports that the system chooses.
NCCL_EDGES = {(a, b, "1024-65535/TCP") for a in ("attention", "expert") for b in ("attention", "expert")}
DNS_PORTS = ("53/UDP", "53/TCP")
# Who is not of ours, by the whole of what selects them.
OTHERS = {
    "clients": {"namespaceSelector": {"matchLabels": {"orrery/clients": "allowed"}}},
    "prometheus": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    "dns": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},
}


def edges_are_those_of_the_design(manifests):
    policies = [policy["spec"] for policy in manifests.of("NetworkPolicy")]
    wrong = []
    if not any(policy["podSelector"] == {} and types(policy) == {"Ingress", "Egress"}
               and not policy.get("ingress") and not policy.get("egress") for policy in policies):
        wrong.append("no NetworkPolicy denies what the others do not allow")
    incoming, outgoing = set(), set()
    for policy in policies:
        for workload in selected(policy["podSelector"], manifests):
            if "Ingress" in types(policy):
                incoming |= {(peer, workload.name, port) for rule in policy.get("ingress", [])
                             for peer in peers(rule.get("from"), manifests) for port in ports(rule)}
            if "Egress" in types(policy):
                outgoing |= {(workload.name, peer, port) for rule in policy.get("egress", [])
                             for peer in peers(rule.get("to"), manifests) for port in ports(rule)}
    expected = expected_edges(manifests)
    ours = {workload.name for workload in manifests.workloads()}
    # An edge between two of our pods has to be allowed at both.
    for a, b, port in sorted(expected):
        if a in ours and (a, b, port) not in outgoing:
            wrong.append(f"{a} may not call {b} at {port}: no egress")
        if b in ours and (a, b, port) not in incoming:
            wrong.append(f"{a} may not call {b} at {port}: no ingress")
    return wrong + [f"{a} may call {b} at {port}, which the design does not know"
                    for a, b, port in sorted((incoming | outgoing) - expected)]


def expected_edges(manifests):
    def ends(role):
        return [role] if role in OTHERS else [each.name for each in manifests.members() if each.role == role]
    roles = EDGES | (NCCL_EDGES if uses_nccl(manifests) else set())
    return ({(caller, called, port) for a, b, port in roles for caller in ends(a) for called in ends(b)}
            | {(workload.name, "dns", port) for workload in manifests.workloads() for port in DNS_PORTS})


def uses_nccl(manifests):
    return any("EXCHANGE_NCCL" in text for each in manifests.of("ConfigMap") for text in each["data"].values())


def types(policy):
    """What it is about, as Kubernetes takes it where it is not said."""
    return set(policy.get("policyTypes", ["Ingress", "Egress"] if "egress" in policy else ["Ingress"]))


def selects(selector, labels):
    holds = {
        "In": lambda expression: labels.get(expression["key"]) in expression["values"],
        "NotIn": lambda expression: labels.get(expression["key"]) not in expression["values"],
        "Exists": lambda expression: expression["key"] in labels,
        "DoesNotExist": lambda expression: expression["key"] not in labels,
    }
    unknown = set(selector) - {"matchLabels", "matchExpressions"}
    unknown |= {each["operator"] for each in selector.get("matchExpressions", [])} - set(holds)
    if unknown:
        raise ValueError(f"a selector has {', '.join(sorted(unknown))}, which nothing knows")
    return (selector.get("matchLabels", {}).items() <= labels.items()
            and all(holds[each["operator"]](each) for each in selector.get("matchExpressions", [])))


def selected(selector, manifests):
    return [workload for workload in manifests.workloads() if selects(selector, workload.labels)]


def peers(given, manifests):
    if not given:
        return ["anybody"]
    found = []
    for peer in given:
        other = next((name for name, selector in OTHERS.items() if selector == peer), None)
        if other:
            found.append(other)
        elif set(peer) == {"podSelector"} and peer["podSelector"]:
            found += [workload.name for workload in selected(peer["podSelector"], manifests)]
        else:
            found.append(f"whoever {peer} selects")
    return found


def ports(rule):
    if not rule.get("ports"):
        return ["any port"]
    return [f"{port.get('port', 'any')}{'-' + str(port['endPort']) if 'endPort' in port else ''}/"
            f"{port.get('protocol', 'TCP')}" for port in rule["ports"]]

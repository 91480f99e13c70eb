"""Objects of operators' kinds: every field that we use, to the last one. A misspelt one would be dropped in silence.

Written from the operators' documents, not from their schemas, which are not at hand; so another field than these may
well be right, and is to be added here.
"""

# What a field holds: a type, a list of what each element is, fields by name, or one of several words.
TEXT, NUMBER, FLAG = str, int, bool
LABELS = {"matchLabels": dict}
SCALING_RULES = {"stabilizationWindowSeconds": NUMBER,
                 "policies": [{"type": {"Pods", "Percent"}, "value": NUMBER, "periodSeconds": NUMBER}]}
SHAPES = {
    "Certificate": {
        "commonName": TEXT, "duration": TEXT, "isCA": FLAG, "renewBefore": TEXT, "secretName": TEXT, "uris": [TEXT],
        "issuerRef": {"name": TEXT, "kind": {"Issuer", "ClusterIssuer"}},
        "privateKey": {"algorithm": {"ECDSA"}, "size": NUMBER, "rotationPolicy": {"Always", "Never"}},
        "usages": [{"digital signature", "client auth", "server auth"}],
    },
    "Issuer": {"ca": {"secretName": TEXT}, "selfSigned": {}},
    "ClusterIssuer": {"ca": {"secretName": TEXT}, "selfSigned": {}},
    "PodMonitor": {
        "jobLabel": TEXT, "selector": LABELS,
        "podMetricsEndpoints": [{
            "port": TEXT, "path": TEXT, "interval": TEXT, "scrapeTimeout": TEXT,
            "relabelings": [{"sourceLabels": [TEXT], "targetLabel": TEXT}],
        }],
    },
    "PrometheusRule": {
        "groups": [{
            "name": TEXT,
            "rules": [{"alert": TEXT, "record": TEXT, "expr": TEXT, "for": TEXT,
                       "labels": {"severity": {"page", "ticket"}}, "annotations": {"summary": TEXT}}],
        }],
    },
    "ScaledObject": {
        "scaleTargetRef": {"apiVersion": TEXT, "kind": TEXT, "name": TEXT},
        "minReplicaCount": NUMBER, "maxReplicaCount": NUMBER, "pollingInterval": NUMBER,
        "fallback": {"failureThreshold": NUMBER, "replicas": NUMBER, "behavior": {"currentReplicasIfHigher"}},
        "advanced": {"horizontalPodAutoscalerConfig": {
            "behavior": {"scaleUp": SCALING_RULES, "scaleDown": SCALING_RULES}}},
        "triggers": [{"type": {"prometheus"}, "metricType": {"AverageValue"},
                      "metadata": {"serverAddress": TEXT, "query": TEXT, "threshold": TEXT}}],
    },
    "LeaderWorkerSet": {
        "replicas": NUMBER, "startupPolicy": {"LeaderCreated"},
        "networkConfig": {"subdomainPolicy": {"Shared"}},
        "rolloutStrategy": {"type": {"RollingUpdate"},
                            "rollingUpdateConfiguration": {"maxUnavailable": NUMBER, "maxSurge": NUMBER}},
        # Its template is a pod's, which Kubernetes' own schema is asked about (schemas.py).
        "leaderWorkerTemplate": {"size": NUMBER, "restartPolicy": {"None"}, "workerTemplate": dict},
    },
}


def shape_problems(value, shape, path):
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{path} is {value}, should have fields"
            return
        for name, inner in value.items():
            if name in shape:
                yield from shape_problems(inner, shape[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is not expected"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{path} is {value}, should be a list"
            return
        for i, inner in enumerate(value):
            yield from shape_problems(inner, shape[0], f"{path}[{i}]")
    elif isinstance(shape, set):
        if value not in shape:
            yield f"{path} is {value}, should be {' or '.join(sorted(shape))}"
    elif type(value) is not shape:  # not isinstance: true is no number
        yield f"{path} is {value!r}, should be of type {shape.__name__}"

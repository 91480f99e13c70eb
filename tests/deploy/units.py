"""Numbers with a unit, as Kubernetes and Prometheus write them."""

import re

FACTORS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
           "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
SECONDS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def quantity(text):
    """"700m": 0.7."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(text))
    if not match or match[2] not in FACTORS:
        raise ValueError(f"{text} is no quantity")
    return float(match[1]) * FACTORS[match[2]]


def seconds(text):
    """"1h30m": 5400."""
    if not re.fullmatch(r"(\d+(ms|[smhdwy]))+", str(text)):
        raise ValueError(f"{text} is no duration")
    return sum(int(count) * SECONDS[unit] for count, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))

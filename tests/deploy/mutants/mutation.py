"""How mutants are made: a copy of rendered manifests, with one thing broken.

    expect_each(references.services_select_their_pods, overlays.cpu, [
        (lambda m: spec(m, "Service", "expert").pop("clusterIP"), "Service expert is not headless"),
    ])
"""


def expect(check, manifests, *parts):
    """A sentence with all of these parts is among those that the check has to say."""
    found = list(check(manifests))
    if not any(all(part in problem for part in parts) for problem in found):
        raise AssertionError(f"{check.__name__} should find {parts}, found {found}")


def expect_each(check, manifests, mutants):
    """Each (change, part, ...) breaks a copy of its own; the check finds nothing wrong with what is not broken."""
    found = list(check(manifests))
    if found:
        raise AssertionError(f"{check.__name__} finds {found} in {manifests.name}, which nothing has broken")
    for change, *parts in mutants:
        copy = manifests.copy()
        change(copy)
        expect(check, copy, *parts)


def workload(manifests, name="expert"):
    return next(each for each in manifests.workloads() if each.name == name)


def pod(manifests, name="expert"):
    return workload(manifests, name).pod


def container(manifests, name="expert"):
    return workload(manifests, name).container()


def spec(manifests, kind, name):
    return manifests.find(kind, name)["spec"]


def edit_args(manifests, name, old, new):
    args = container(manifests, name)["args"]
    assert any(old in each for each in args), old
    args[:] = [each.replace(old, new) for each in args]


def edit_cluster_file(manifests, old, new):
    data = manifests.of("ConfigMap")[0]["data"]
    assert old in data["cluster.txtpb"], old
    data["cluster.txtpb"] = data["cluster.txtpb"].replace(old, new)

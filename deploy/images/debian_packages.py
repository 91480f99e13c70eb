"""Which Debian packages files of this machine come from.

    packages = packages_of(["/lib/x86_64-linux-gnu/libssl.so.3"])   # {"/lib/...": Package(name="libssl3", ...)}

A file that no package has is left out.
"""

import dataclasses
import os
import subprocess
import urllib.parse


@dataclasses.dataclass(frozen=True, order=True)
class Package:
    name: str
    version: str
    architecture: str
    source: str
    source_version: str

    @property
    def purl(self):
        """Package URL, as scanners read it."""
        name, version = (urllib.parse.quote(part, safe="") for part in (self.name, self.version))
        return f"pkg:deb/debian/{name}@{version}?arch={self.architecture}&distro=debian-12"

    def status(self):
        """Its paragraph of dpkg's data base: scanners of images look for these."""
        return subprocess.check_output(["dpkg-query", "-s", f"{self.name}:{self.architecture}"], text=True)


def _spellings(path):
    """dpkg lists some libraries under /lib, some under /usr/lib; both are one folder."""
    for spelling in {path, os.path.realpath(path)}:
        yield spelling
        yield spelling.removeprefix("/usr") if spelling.startswith("/usr/") else "/usr" + spelling


def packages_of(paths):
    # One question for all of them: dpkg reads its lists anew for each.
    path_of = {spelling: path for path in paths for spelling in _spellings(path)}
    found = subprocess.run(["dpkg-query", "-S", *path_of], capture_output=True, text=True, check=False).stdout
    owner_of = {}
    for line in found.splitlines():
        owners, _, spelling = line.rpartition(": ")
        if spelling in path_of:
            owner_of[path_of[spelling]] = owners.split(", ")[0]
    described = _describe(sorted(set(owner_of.values())))
    return {path: described[owner] for path, owner in owner_of.items()}


def _describe(owners):
    if not owners:
        return {}
    fields = ("Package", "Version", "Architecture", "source:Package", "source:Version")
    form = "\t".join("${" + field + "}" for field in fields) + "\n"
    lines = subprocess.check_output(["dpkg-query", "-W", "-f", form, *owners], text=True).splitlines()
    packages = [Package(*line.split("\t")) for line in lines]
    return {owner: package for owner in owners for package in packages
            if owner in (package.name, f"{package.name}:{package.architecture}")}

"""Which Debian package a file of this machine comes from.

    package = package_of("/lib/x86_64-linux-gnu/libssl.so.3")   # Package(name="libssl3", version="3.0.17-1~deb12u2", ...)

Raises LookupError for a file that no package has, naming it.
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
        version = urllib.parse.quote(self.version)
        return f"pkg:deb/debian/{self.name}@{version}?arch={self.architecture}&distro=debian-12"


def _spellings(path):
    """dpkg lists some libraries under /lib, some under /usr/lib; both are one folder."""
    real = os.path.realpath(path)
    for spelling in (path, real):
        yield spelling
        yield spelling.removeprefix("/usr") if spelling.startswith("/usr/") else "/usr" + spelling


def package_of(path):
    for spelling in _spellings(path):
        found = subprocess.run(["dpkg-query", "-S", spelling], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return _describe(found.stdout.split(": ")[0])
    raise LookupError(f"{path} belongs to no Debian package")


def _describe(name):
    fields = ("Package", "Version", "Architecture", "source:Package", "source:Version")
    form = "\t".join("${" + field + "}" for field in fields)
    return Package(*subprocess.check_output(["dpkg-query", "-W", "-f", form, name], text=True).split("\t"))


def status_of(package):
    """The package's paragraph of dpkg's data base: scanners of images look for these."""
    return subprocess.check_output(["dpkg-query", "-s", f"{package.name}:{package.architecture}"
                                    if package.architecture != "all" else package.name], text=True)

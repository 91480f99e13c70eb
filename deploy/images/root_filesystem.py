"""Lays out the root file system of an image in a folder: our programs, the shared libraries they need, their licences.

    contents = lay_out(folder, {"router": "bazel-bin/services/router/router", ...})
    contents.packages, contents.libraries     # where the libraries come from, for the bill of materials

The same inputs give the same files; the image builder sets the times. A library is a file of a Debian package that
is installed here; of the others only those of the CUDA toolkit are taken, and those of the node's GPU driver are left
out. With NCCL come the libraries for RDMA, which it opens by name. Raises BuildError with what to do.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

from debian_packages import packages_of
from sbom import Library

# Header-only: the programs have their code, and need no library of theirs.
COMPILED_IN = {"/usr/include/nlohmann/json.hpp": "nlohmann-json3-dev",
               "/usr/include/boost/version.hpp": "libboost1.81-dev"}
CUDA_ROOT = "/usr/local/cuda"
NCCL = "libnccl.so.2"
# What NCCL opens, and what that opens in turn for ConnectX cards. Without them NCCL takes TCP, and does not say so.
VERBS = ("libibverbs.so.1", "libmlx5.so.1")
VERBS_DRIVER = "/etc/libibverbs.d/mlx5.driver"
# Of the driver, which the container runtime of a GPU node puts in.
FROM_NODE = {"libcuda.so.1", "libnvidia-ml.so.1"}
USER_ID = 65532

PASSWD = f"root:x:0:0:root:/:/nonexistent\norrery:x:{USER_ID}:{USER_ID}:orrery:/nonexistent:/nonexistent\n"
GROUP = f"root:x:0:\norrery:x:{USER_ID}:\n"
# gRPC's resolver and glibc's both read it: first /etc/hosts, then the name servers.
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


class BuildError(Exception):
    """What is wrong, and what to do."""


@dataclasses.dataclass
class Contents:
    packages: set = dataclasses.field(default_factory=set)
    libraries: set = dataclasses.field(default_factory=set)


def lay_out(root, programs, licence):
    """`programs`: name in /usr/bin to the file that the build made."""
    root = pathlib.Path(root)
    contents = Contents()
    libraries = {}
    for name, source in sorted(programs.items()):
        target = root / "usr/bin" / name
        _copy(source, target, 0o755, "build it first")
        _strip(target)
        libraries.update(_libraries_of(source))
    if NCCL in libraries:
        libraries.update(_lay_out_verbs(root))
    package_of = packages_of([*libraries.values(), *COMPILED_IN])
    for header, package in COMPILED_IN.items():
        if header not in package_of:
            raise BuildError(f"no Debian package has {header}: apt-get install {package}")
        contents.packages.add(package_of[header])
    for soname, path in sorted(libraries.items()):
        _add_library(root, soname, path, package_of.get(path), contents)
    for package in sorted(contents.packages):
        _copy(f"/usr/share/doc/{package.name}/copyright", root / "usr/share/doc" / package.name / "copyright", 0o644,
              f"apt-get install --reinstall {package.name}")
        _write(root / "var/lib/dpkg/status.d" / package.name, package.status())
    _copy(licence, root / "usr/share/doc/orrery/copyright", 0o644, "it is part of the checkout")
    _copy("/usr/lib/os-release", root / "usr/lib/os-release", 0o644, "this needs Debian 12")
    _write(root / "etc/passwd", PASSWD)
    _write(root / "etc/group", GROUP)
    _write(root / "etc/nsswitch.conf", NSSWITCH)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    for mount_point in ("etc/orrery/tls", "etc/orrery/keys", "models", "tmp"):
        (root / mount_point).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    return contents


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)


def _copy(source, target, mode, what_to_do):
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise BuildError(f"cannot copy {source}: {error.strerror}; {what_to_do}") from error
    target.chmod(mode)


def _strip(path):
    done = subprocess.run(["strip", "--strip-all", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"strip {path}: {done.stderr.strip()}; is it a program for this machine?")


def _libraries_of(program):
    """soname -> path of what the dynamic loader would load, itself included."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise BuildError(f"ldd {program}: {(listed.stderr + listed.stdout).strip()}")
    libraries = {}
    for line in listed.stdout.splitlines():
        if match := re.match(r"\s*(\S+) => not found", line):
            if match[1] not in FROM_NODE:
                raise BuildError(f"{program} needs {match[1]}, which is not here; install what third_party/ says")
        elif match := re.match(r"\s*(?:\S+ => )?(/\S+) \(0x", line):
            libraries[os.path.basename(match[1])] = match[1]
    return {soname: path for soname, path in libraries.items() if soname not in FROM_NODE}


def _multiarch():
    return f"{os.uname().machine}-linux-gnu"


def _lay_out_verbs(root):
    """Names the driver, as Debian does; soname -> path of the libraries."""
    folder = pathlib.Path("/usr/lib") / _multiarch()
    libraries = {}
    for soname in VERBS:
        if not (folder / soname).exists():
            raise BuildError(f"NCCL needs {folder / soname} for RDMA: apt-get install ibverbs-providers")
        libraries.update({soname: str(folder / soname)}, **_libraries_of(folder / soname))
    _copy(VERBS_DRIVER, root / VERBS_DRIVER.lstrip("/"), 0o644, "apt-get install --reinstall ibverbs-providers")
    # One library by two names: the driver's carries the version of the interface.
    driver, = (folder / "libibverbs").glob("libmlx5-rdmav*.so")
    link = root / str(driver).lstrip("/")
    link.parent.mkdir(parents=True)
    link.symlink_to("../libmlx5.so.1")
    return libraries


def _add_library(root, soname, path, package, contents):
    if soname.startswith("ld-linux"):
        target = root / path.lstrip("/")  # programs name the loader by its path
    else:
        target = root / "usr/lib" / _multiarch() / soname  # where the loader looks without a cache
    _copy(path, target, 0o755, "it was there a moment ago")
    if package is not None:
        contents.packages.add(package)
    elif os.path.realpath(path).startswith(os.path.realpath(CUDA_ROOT) + "/"):
        version, licence = _nvidia_version_and_licence(soname, path)
        _copy(licence, root / "usr/share/doc" / soname / "copyright", 0o644, "the library comes with this licence")
        sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
        contents.libraries.add(Library(soname, version, "Organization: NVIDIA", sha256))
    else:
        raise BuildError(f"{path} belongs to no Debian package, nor to {CUDA_ROOT}: use Debian's library")


def _nvidia_version_and_licence(soname, path):
    """Of the pip package that has the library, if the toolkit was put together from those; else of the toolkit."""
    for record in sorted(pathlib.Path(CUDA_ROOT).glob("dist-info/*.dist-info/RECORD")):
        if f"/{soname}," in record.read_text():
            version = record.parent.name.removesuffix(".dist-info").rpartition("-")[2]
            return version, record.parent / "licenses/License.txt"
    version = os.path.basename(os.path.realpath(path)).removeprefix(soname.split(".so")[0] + ".so.")
    return version, pathlib.Path(CUDA_ROOT) / "EULA.txt"

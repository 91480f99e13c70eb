"""C++ from one .proto file with Debian's protoc, and with grpc_cpp_plugin where it has services."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def proto_cc_library(name, src, deps = [], grpc = False, visibility = None):
    """A cc_library with the messages (and services) of one .proto file.

    Args:
      name: name of the library.
      src: the .proto file. Include its code as "<package>/<file>.pb.h".
      deps: other proto_cc_library targets whose files src imports.
      grpc: whether src has services; then "<package>/<file>.grpc.pb.h" exists too.
      visibility: as usual.
    """
    stem = src[:-len(".proto")]
    hdrs = [stem + ".pb.h"] + ([stem + ".grpc.pb.h"] if grpc else [])
    srcs = [stem + ".pb.cc"] + ([stem + ".grpc.pb.cc"] if grpc else [])
    native.filegroup(
        name = name + "_proto",
        srcs = [src] + [dep + "_proto" for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_gen",
        srcs = [":" + name + "_proto"],
        outs = hdrs + srcs,
        cmd = "protoc --proto_path=. --cpp_out=$(BINDIR) " +
              ("--grpc_out=$(BINDIR) --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin " if grpc else "") +
              native.package_name() + "/" + src,
    )
    cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        visibility = visibility,
        deps = deps + (["//third_party/grpc"] if grpc else ["//third_party/protobuf"]),
    )

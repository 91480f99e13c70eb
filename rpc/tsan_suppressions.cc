// What the thread sanitizer must not report in tests that use gRPC. Debian's gRPC, OpenSSL and
// Abseil are built without it, so it sees none of their locks and takes everything that they order
// for a race.
// Code that gRPC calls back is thereby not checked; what it shares with other threads should be,
// without gRPC: the exchange over its loopback, cores alone.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libgrpc.so\n"
         "called_from_lib:libgrpc++.so\n"
         "called_from_lib:libgpr.so\n"
         "called_from_lib:libabsl_synchronization.so\n"
         "called_from_lib:libabsl_graphcycles_internal.so\n"
         "called_from_lib:libssl.so\n"
         "called_from_lib:libcrypto.so\n"
         "race:libgrpc\n"
         "race:libgpr\n"
         "race:libabsl\n"
         "race:libssl\n"
         "race:libcrypto\n"
         "race:^grpc::\n"
         // Reports of which tsan has lost the stack that leads to the libraries above.
         "race:libupb\n"
         "race:^orrery::Server::~Server\n";
}

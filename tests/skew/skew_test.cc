// Builds N and N-1 talk to each other while a cluster is rolled from one to the other: what the build before this
// one says must mean the same here. The record is what its protos say; they may gain things, and lose nothing.
//
// After a release, and in no other commit: ORRERY_RECORD=$PWD/tests/skew/released.txt bazel-bin/tests/skew/skew_test
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "proto/attention.pb.h"
#include "proto/cluster.pb.h"
#include "proto/expert.pb.h"
#include "proto/member.pb.h"
#include "proto/orrery.pb.h"
#include "proto/placement.pb.h"
#include "proto/resume.pb.h"

namespace orrery {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;

// One a line: "orrery.internal.Role.ROLE_ROUTER = 1", "orrery.internal.Limits.drain_ms = 16: int32", a method with
// what goes in and out.
using Sentences = std::set<std::string>;

void Add(const EnumDescriptor& type, Sentences& sentences) {
  for (int i = 0; i < type.value_count(); ++i) {
    sentences.insert(
        absl::StrCat(type.full_name(), ".", type.value(i)->name(), " = ", type.value(i)->number()));
  }
}

void Add(const Descriptor& message, Sentences& sentences) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    std::string type = field.type_name();
    if (field.message_type() != nullptr) type = field.message_type()->full_name();
    if (field.enum_type() != nullptr) type = field.enum_type()->full_name();
    sentences.insert(absl::StrCat(field.full_name(), " = ", field.number(), ": ",
                                  field.is_repeated() ? "repeated " : "", type));
  }
  for (int i = 0; i < message.nested_type_count(); ++i) Add(*message.nested_type(i), sentences);
  for (int i = 0; i < message.enum_type_count(); ++i) Add(*message.enum_type(i), sentences);
}

void Add(const MethodDescriptor& method, Sentences& sentences) {
  sentences.insert(
      absl::StrCat(method.full_name(), ": ", method.client_streaming() ? "stream " : "",
                   method.input_type()->full_name(), " to ",
                   method.server_streaming() ? "stream " : "", method.output_type()->full_name()));
}

Sentences WhatProtosSay() {
  Sentences sentences;
  const std::vector<const FileDescriptor*> files = {
      internal::SequenceRequest::descriptor()->file(),
      internal::ClusterFile::descriptor()->file(),
      internal::Frame::descriptor()->file(),
      internal::MemberDescription::descriptor()->file(),
      internal::RowCounts::descriptor()->file(),
      internal::ResumeToken::descriptor()->file(),
      v1::GenerateRequest::descriptor()->file()};
  for (const FileDescriptor* file : files) {
    for (int i = 0; i < file->message_type_count(); ++i) Add(*file->message_type(i), sentences);
    for (int i = 0; i < file->enum_type_count(); ++i) Add(*file->enum_type(i), sentences);
    for (int i = 0; i < file->service_count(); ++i) {
      for (int k = 0; k < file->service(i)->method_count(); ++k) {
        Add(*file->service(i)->method(k), sentences);
      }
    }
  }
  return sentences;
}

TEST(Skew, WhatTheBuildBeforeSaysMeansTheSame) {
  const Sentences now = WhatProtosSay();
  if (const char* path = std::getenv("ORRERY_RECORD")) {
    std::ofstream file(path);
    for (const std::string& sentence : now) file << sentence << "\n";
    ASSERT_TRUE(file.good()) << path;
  }
  std::ifstream released("tests/skew/released.txt");
  std::string sentence;
  int num_released = 0;
  while (std::getline(released, sentence)) {
    ++num_released;
    EXPECT_TRUE(now.count(sentence) == 1) << "the build before says \"" << sentence << "\"";
  }
  EXPECT_GT(num_released, 100);
}

}  // namespace
}  // namespace orrery

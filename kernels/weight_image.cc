#include "kernels/weight_image.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/kernels.h"

namespace orrery {
namespace {

// So that no size of an image overflows: values of 4 bytes, padded, make at most 2^58.
constexpr int32_t kMaxExtent = 1 << 28;

// As text, whatever stands there.
std::string LayoutText(const char (&layout)[16]) {
  std::string text;
  for (const char c : layout) {
    if (c == '\0') break;
    text += c >= ' ' && c <= '~' ? c : '?';
  }
  return text;
}

}  // namespace

WeightImageHeader MakeImageHeader(std::string_view layout, int num_outputs, int num_inputs) {
  WeightImageHeader header;
  ORRERY_CHECK(layout.size() < sizeof(header.layout)) << layout.size();
  std::copy(layout.begin(), layout.end(), header.layout);
  header.num_outputs = num_outputs;
  header.num_inputs = num_inputs;
  return header;
}

absl::StatusOr<WeightImageHeader> ReadImageHeader(absl::Span<const std::byte> image,
                                                  std::string_view layout) {
  WeightImageHeader header;
  if (image.size() < sizeof(header)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image of ", image.size(), " bytes has no room for its header"));
  }
  if (reinterpret_cast<uintptr_t>(image.data()) % kImageAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image must lie on a border of ", kImageAlignment, " bytes"));
  }
  std::memcpy(&header, image.data(), sizeof(header));
  const WeightImageHeader same = MakeImageHeader(layout, 0, 0);
  if (std::memcmp(header.layout, same.layout, sizeof(header.layout)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the image has layout \"",
                                                   LayoutText(header.layout), "\", not \"",
                                                   std::string(layout), "\""));
  }
  const auto is_extent = [](int32_t extent) { return extent > 0 && extent <= kMaxExtent; };
  if (!is_extent(header.num_outputs) || !is_extent(header.num_inputs)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the image claims a shape of [", header.num_outputs, ", ", header.num_inputs, "]"));
  }
  if (header.product_format < 0 ||
      header.product_format > static_cast<int32_t>(ProductFormat::kFp8)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image claims product format ", header.product_format));
  }
  if (std::any_of(std::begin(header.reserved), std::end(header.reserved),
                  [](int32_t value) { return value != 0; })) {
    return absl::InvalidArgumentError("the image has something where nothing should be");
  }
  return header;
}

}  // namespace orrery

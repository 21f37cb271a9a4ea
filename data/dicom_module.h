// What the DICOM module gives to the program that opens it: one exported function that returns this table. It is a
// module since DCMTK's libraries add 8 ms to a start.
#pragma once

#include "data/image.h"

namespace graft::decoders {

struct DicomModule {
  const char* version;  // build_info().version of the module
  /// As decode_dicom.
  Image (*decode)(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info);
};

/// The type and the name of the exported function.
using DicomModuleFunction = const DicomModule* (*)();
inline constexpr const char* kDicomModuleFunction = "graft_dicom_module";

}  // namespace graft::decoders

// Opens the DICOM module at the first DICOM file.
#include <fmt/format.h>

#include "data/decoders.h"
#include "data/dicom_module.h"
#include "kernels/build_info.h"
#include "kernels/core.h"
#include "kernels/modules.h"

namespace graft::decoders {
namespace {

OpenedModule<DicomModule> open_dicom() {
  if (!reads_dicom()) return {nullptr, kNoDicom};
  return open_module<DicomModule>({.name = "DICOM",
                                   .variable = "GRAFT_DICOM_MODULE",
                                   .file = build_info().dicom_module_file,
                                   .function = kDicomModuleFunction,
                                   .libraries = "DCMTK's libraries"});
}

}  // namespace

bool reads_dicom() { return !build_info().dicom_module_file.empty(); }

Image decode_dicom(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info) {
  static const OpenedModule<DicomModule> opened = open_dicom();
  if (opened.table == nullptr) throw NoDecoder(fmt::format("cannot decode {}: {}", name, opened.reason));
  return opened.table->decode(bytes, name, info);
}

}  // namespace graft::decoders

// The DICOM module: DICOM by DCMTK, which applies what the file says about its numbers: the modality's rescaling, then
// the first VOI table or window (without either, from the smallest number to the largest), then the inversion of
// MONOCHROME1.
#include <fmt/format.h>

#include <algorithm>

#include "data/decoders.h"
#include "data/dicom_module.h"
#include "kernels/build_info.h"
#include "kernels/core.h"

// These define macros with common names.
#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcfilefo.h>
#include <dcmtk/dcmdata/dcistrmb.h>
#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmdata/dcxfer.h>
#include <dcmtk/dcmimage/diregist.h>
#include <dcmtk/dcmimgle/dcmimage.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpls/djdecode.h>
#include <dcmtk/oflog/oflog.h>

namespace graft::decoders {
namespace {

/// Once for the process: what the files may be compressed with, and no words on standard error.
void set_up() {
  static const bool is_done = [] {
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    DcmRLEDecoderRegistration::registerCodecs();
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
    return true;
  }();
  static_cast<void>(is_done);
}

Error cannot(std::string_view name, std::string_view reason) {
  return Error(fmt::format("cannot decode {}: {}", name, reason));
}

void read(DcmFileFormat& file, std::span<const std::uint8_t> bytes, std::string_view name) {
  DcmInputBufferStream stream;
  stream.setBuffer(bytes.data(), static_cast<offile_off_t>(bytes.size()));
  stream.setEos();
  file.transferInit();
  const OFCondition result = file.read(stream);
  file.transferEnd();
  if (result.bad()) throw cannot(name, fmt::format("{}; the DICOM file is corrupt or truncated", result.text()));
}

std::int64_t number(DcmItem& data, const DcmTagKey& tag, std::int64_t otherwise) {
  Uint16 value = 0;
  return data.findAndGetUint16(tag, value).good() ? value : otherwise;
}

std::int64_t frames(DcmItem& data) {
  Sint32 count = 1;
  return data.findAndGetSint32(DCM_NumberOfFrames, count).good() ? count : 1;
}

/// Why there is no picture, and what to do.
Error no_picture(std::string_view name, const DcmXfer& syntax, const DicomImage& picture) {
  const std::string reason = DicomImage::getString(picture.getStatus());
  if (!syntax.isEncapsulated())
    return cannot(name, fmt::format("{}; the DICOM file is corrupt, truncated or of an unusual kind", reason));
  return cannot(
      name, fmt::format("{} ({}); decompress the file, for example with gdcmconv --raw", reason, syntax.getXferName()));
}

Image decode(std::span<const std::uint8_t> bytes, std::string_view name, ImageInfo& info) {
  set_up();
  DcmFileFormat file;
  read(file, bytes, name);
  DcmDataset& data = *file.getDataset();
  const std::int64_t height = number(data, DCM_Rows, 0), width = number(data, DCM_Columns, 0);
  if (height == 0 || width == 0 || !data.tagExists(DCM_PixelData))
    throw cannot(name, "there is no picture in this DICOM file");
  check_size(height, width, name);
  if (frames(data) != 1)
    throw cannot(name, fmt::format("it holds {} pictures; save those that are meant as files of one", frames(data)));

  const DcmXfer syntax(data.getOriginalXfer());
  DicomImage picture(&data, data.getOriginalXfer());
  if (picture.getStatus() != EIS_Normal) throw no_picture(name, syntax, picture);
  if (picture.isMonochrome()) {
    if (picture.getVoiLutCount() > 0)
      picture.setVoiLut(0);
    else if (picture.getWindowCount() > 0)
      picture.setWindow(0);
    else
      picture.setMinMaxWindow();
  }
  const std::int64_t channels = picture.isMonochrome() ? 1 : 3;
  const auto* pixels = static_cast<const std::uint8_t*>(picture.getOutputData(8));
  const bool is_whole = std::int64_t(picture.getOutputDataSize(8)) >= height * width * channels &&
                        std::int64_t(picture.getHeight()) == height && std::int64_t(picture.getWidth()) == width;
  if (pixels == nullptr || !is_whole) throw no_picture(name, syntax, picture);
  info = {"DICOM", int(number(data, DCM_SamplesPerPixel, channels)), int(number(data, DCM_BitsStored, 8))};
  Image image = Image::blank(height, width);
  if (channels == 3)
    std::copy_n(pixels, image.bytes(), image.rgb.data());
  else
    for (std::int64_t i = 0; i < height * width; ++i) std::fill_n(image.rgb.data() + 3 * i, 3, pixels[i]);
  return image;
}

}  // namespace
}  // namespace graft::decoders

extern "C" __attribute__((visibility("default"))) const graft::decoders::DicomModule* graft_dicom_module() {
  using namespace graft::decoders;
  static const std::string version(graft::build_info().version);
  static const DicomModule module{.version = version.c_str(), .decode = decode};
  return &module;
}

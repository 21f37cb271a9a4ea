// The DICOM module: DICOM by DCMTK, which applies what the file says about its numbers: the modality's rescaling, then
// the first VOI table or window, then an inversion.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "data/decoders.h"
#include "data/dicom_module.h"
#include "kernels/build_info.h"
#include "kernels/core.h"

// These define macros with common names.
#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcdict.h>
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

/// What files may be compressed with.
struct Codecs {
  Codecs() {
    DcmRLEDecoderRegistration::registerCodecs();
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
  }
  ~Codecs() {
    DJLSDecoderRegistration::cleanup();
    DJDecoderRegistration::cleanup();
    DcmRLEDecoderRegistration::cleanup();
  }
};

/// Once for the process. Errors: DCMTK is not whole.
void set_up() {
  static const bool is_quiet = (OFLog::configure(OFLogger::OFF_LOG_LEVEL), true);  // no words on standard error
  static const Codecs codecs;
  static_cast<void>(is_quiet);
  if (!dcmDataDict.isDictionaryLoaded())
    throw Error("DCMTK's data dictionary was not found; unset DCMDICTPATH, or install it (Debian: libdcmtk17)");
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

double real(DcmItem& data, const DcmTagKey& tag, double otherwise) {
  Float64 value = 0;
  return data.findAndGetFloat64(tag, value).good() ? value : otherwise;
}

std::string text(DcmItem& data, const DcmTagKey& tag) {
  OFString value;
  return data.findAndGetOFString(tag, value).good() ? std::string(value.c_str()) : "";
}

/// Size of the picture, once it is sure that there is one and, unless it is compressed, that all of it is there.
struct Layout {
  std::int64_t height, width;
  Layout(DcmDataset& data, const DcmXfer& syntax, std::string_view name)
      : height(number(data, DCM_Rows, 0)), width(number(data, DCM_Columns, 0)) {
    if (data.tagExists(DCM_FloatPixelData) || data.tagExists(DCM_DoubleFloatPixelData))
      throw cannot(name, "the pixels of this DICOM file are floating point; export it as PNG");
    DcmElement* pixels = nullptr;
    if (height == 0 || width == 0 || data.findAndGetElement(DCM_PixelData, pixels).bad())
      throw cannot(name, "there is no picture in this DICOM file");
    check_size(height, width, name);
    Sint32 frames = 1;
    if (data.findAndGetSint32(DCM_NumberOfFrames, frames).good() && frames > 1)
      throw cannot(name, fmt::format("it holds {} pictures; save those that are meant as files of one", frames));
    const bool shares_colours = text(data, DCM_PhotometricInterpretation) == "YBR_FULL_422";
    const std::int64_t samples = shares_colours ? 2 : number(data, DCM_SamplesPerPixel, 1);
    const std::int64_t bits = height * width * samples * number(data, DCM_BitsAllocated, 8);
    if (!syntax.isEncapsulated() && std::int64_t(pixels->getLength()) < (bits + 7) / 8)
      throw cannot(name, fmt::format("it has {} bytes of pixels, {}x{} need {}; the DICOM file is truncated",
                                     pixels->getLength(), width, height, (bits + 7) / 8));
  }
};

/// From stored numbers to what the modality measures: slope * number + intercept. DCMTK rounds the results to whole
/// numbers, which leaves of a slope of 0.001 nothing. So numbers stay as they are, and windows are taken to them.
struct Rescaling {
  double slope, intercept;
  bool is_dcmtks;  // a table in the place of both, or a VOI table behind them, which whole numbers enter
  explicit Rescaling(DcmItem& data)
      : slope(real(data, DCM_RescaleSlope, 1)),
        intercept(real(data, DCM_RescaleIntercept, 0)),
        is_dcmtks(data.tagExists(DCM_ModalityLUTSequence) || data.tagExists(DCM_VOILUTSequence)) {}
  unsigned long flags() const { return is_dcmtks ? 0 : CIF_IgnoreModalityTransformation; }
};

/// The first window of the file, for numbers as they are stored. Returns whether there is a usable one.
bool set_window(DicomImage& picture, DcmItem& data, const Rescaling& rescaling) {
  if (rescaling.is_dcmtks) return picture.getWindowCount() > 0 && picture.setWindow(0UL) != 0;
  double center = real(data, DCM_WindowCenter, 0), width = real(data, DCM_WindowWidth, 0);
  const bool is_sigmoid = text(data, DCM_VOILUTFunction) == "SIGMOID";
  if (!(width >= 1 || (is_sigmoid && width > 0))) return false;
  const double scale = std::abs(rescaling.slope);
  if (is_sigmoid) {
    center = (center - rescaling.intercept) / rescaling.slope, width /= scale;
  } else {  // PS3.3 C.11.2.1.2.1: from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2
    center = (center - 0.5 - rescaling.intercept) / rescaling.slope + 0.5, width = (width - 1) / scale + 1;
  }
  return picture.setVoiLutFunction(is_sigmoid ? EFV_Sigmoid : EFV_Linear) != 0 && picture.setWindow(center, width) != 0;
}

/// How numbers become levels. Errors: nothing says how.
void set_levels(DicomImage& picture, DcmItem& data, const Rescaling& rescaling, std::string_view name) {
  const bool has_table = picture.getVoiLutCount() > 0 && picture.setVoiLut(0) != 0;
  const bool are_levels = number(data, DCM_BitsStored, 0) == 8 && number(data, DCM_PixelRepresentation, 0) == 0 &&
                          rescaling.slope == 1 && rescaling.intercept == 0 && !rescaling.is_dcmtks;
  if (!has_table && !set_window(picture, data, rescaling) && !(are_levels && picture.setWindow(128, 256) != 0) &&
      picture.setMinMaxWindow() == 0)
    throw cannot(name, "nothing in this DICOM file says how its numbers are to be seen; export it as PNG");
  if (!rescaling.is_dcmtks && !has_table && rescaling.slope < 0) picture.setPolarity(EPP_Reverse);
}

/// Why there is no picture, and what to do.
Error no_picture(std::string_view name, const DcmXfer& syntax, const DicomImage& picture) {
  const std::string reason = picture.getStatus() == EIS_Normal ? "not all of its pixels are there"
                                                               : DicomImage::getString(picture.getStatus());
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
  const DcmXfer syntax(data.getOriginalXfer());
  const auto [height, width] = Layout(data, syntax, name);
  const Rescaling rescaling(data);
  if (!rescaling.is_dcmtks && (rescaling.slope == 0 || !std::isfinite(rescaling.slope)))
    throw cannot(name, "its rescale slope makes all numbers equal; the DICOM file is corrupt");
  DicomImage picture(&data, data.getOriginalXfer(), rescaling.flags());
  const auto is_whole = [&] {
    return picture.getInterData() != nullptr &&
           std::int64_t(picture.getInterData()->getInputCount()) >= height * width &&
           std::int64_t(picture.getHeight()) == height && std::int64_t(picture.getWidth()) == width;
  };
  if (picture.getStatus() != EIS_Normal || !is_whole()) throw no_picture(name, syntax, picture);
  if (picture.isMonochrome()) set_levels(picture, data, rescaling, name);
  const std::int64_t channels = picture.isMonochrome() ? 1 : 3;
  const auto* pixels = static_cast<const std::uint8_t*>(picture.getOutputData(8));
  if (pixels == nullptr || std::int64_t(picture.getOutputDataSize(8)) < height * width * channels)
    throw no_picture(name, syntax, picture);
  info = {"DICOM", int(channels), int(number(data, DCM_BitsStored, 8))};
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

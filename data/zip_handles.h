// A zip archive that libzip reads, and an entry of it; both close themselves.
#pragma once

#include <zip.h>

#include <memory>

namespace graft {

struct CloseZip {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseZipEntry {
  void operator()(zip_file_t* entry) const { zip_fclose(entry); }
};
using Zip = std::unique_ptr<zip_t, CloseZip>;
using ZipEntry = std::unique_ptr<zip_file_t, CloseZipEntry>;

}  // namespace graft

// MD5 of bytes: the hash that Keras published for its weight files, used to say which of them a file is. It protects
// nothing; SHA-256, which names sources, is in files.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace graft {

/// 32 lower-case hexadecimal digits.
/// Source: RFC 1321.
std::string md5_hex(std::span<const std::uint8_t> bytes);

}  // namespace graft

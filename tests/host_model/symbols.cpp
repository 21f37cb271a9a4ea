#include "tests/host_model/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>

#include "tests/host_model/host_model.h"

namespace graft::host_model {
namespace {

constexpr const char* kProgram = "/proc/self/exe";

std::string demangled(const char* name) {
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, nullptr), std::free);
  std::string result = text ? text.get() : name;
  for (const std::string_view noise : {"(anonymous namespace)::", "graft::gpu::", "graft::"})
    for (std::size_t at; (at = result.find(noise)) != result.npos;) result.erase(at, noise.size());
  return result;
}

/// Where the program was loaded, relative to the addresses in its file.
std::uintptr_t load_offset() {
  std::uintptr_t offset = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* result) {
        *static_cast<std::uintptr_t*>(result) = info->dlpi_addr;
        return 1;  // the program itself comes first
      },
      &offset);
  return offset;
}

struct Symbols {
  std::vector<SharedArray> arrays;
  std::map<std::uintptr_t, std::string> functions;
};

/// Local symbols follow the FILE symbol of their source. A __shared__ array is a writable function-local variable
/// (mangled _ZZ…) of a .cu file.
Symbols read_symbols() {
  std::ifstream file(kProgram, std::ios::binary);
  std::vector<char> bytes(std::filesystem::file_size(kProgram));
  file.read(bytes.data(), std::streamsize(bytes.size()));
  if (!file) throw std::runtime_error("host model: the program's own file cannot be read");
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(bytes.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(bytes.data() + header->e_shoff);
  const std::uintptr_t offset = load_offset();
  Symbols all;
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(bytes.data() + sections[i].sh_offset);
    const char* names = bytes.data() + sections[sections[i].sh_link].sh_offset;
    bool in_kernel_file = false;
    for (std::size_t k = 0; k < sections[i].sh_size / sizeof(Elf64_Sym); ++k) {
      const Elf64_Sym& s = symbols[k];
      const char* mangled = names + s.st_name;
      const std::string_view name = mangled;
      const auto type = ELF64_ST_TYPE(s.st_info);
      const bool is_local = ELF64_ST_BIND(s.st_info) == STB_LOCAL;
      if (type == STT_FILE) in_kernel_file = name.ends_with(".cu");
      const bool is_defined = s.st_shndx != SHN_UNDEF && s.st_shndx < SHN_LORESERVE;
      if (!is_defined) continue;
      const bool is_variable =
          type == STT_OBJECT && name.starts_with("_ZZ") && sections[s.st_shndx].sh_flags & SHF_WRITE;
      if (is_variable && !is_local && name.starts_with("_ZZN5graft3gpu"))
        throw std::logic_error(
            fmt::format("host model: {}: a function with __shared__ memory must be in an unnamed "
                        "namespace of its .cu file",
                        demangled(mangled)));
      if (!is_local || !in_kernel_file) continue;
      if (name.starts_with("_ZGVZ"))  // guards the first use of a static variable that a constructor fills
        throw std::logic_error(
            fmt::format("host model: {}: a function of a .cu file may have no static variable of its "
                        "own, since __shared__ arrays are such and are filled with NaN",
                        demangled(mangled)));
      const std::uintptr_t address = offset + s.st_value;
      if (is_variable) all.arrays.push_back({reinterpret_cast<char*>(address), s.st_size, demangled(mangled)});
      const bool is_part = name.find(".cold") != name.npos;  // of a function, for what is rare
      if (type == STT_FUNC && !is_part) all.functions.emplace(address, demangled(mangled));
    }
  }
  if (all.arrays.empty())
    throw std::logic_error(
        "host model: the program's symbol table shows no __shared__ array, so none could be filled "
        "with NaN between blocks; do not strip the program");
  return all;
}

const Symbols& symbols() {
  static const Symbols all = read_symbols();
  return all;
}

}  // namespace

const std::vector<SharedArray>& shared_arrays() { return symbols().arrays; }

std::string function_name(const void* function) {
  const auto it = symbols().functions.find(reinterpret_cast<std::uintptr_t>(function));
  return it == symbols().functions.end() ? fmt::format("{}", function) : it->second;
}

const std::set<std::string>& device_functions() {
  static const std::set<std::string> names = [] {
    std::set<std::string> result;
    for (const auto& [address, name] : symbols().functions) result.insert(name);
    return result;
  }();
  return names;
}

std::string place_of(const void* return_address) {
  const std::uintptr_t in_file = reinterpret_cast<std::uintptr_t>(return_address) - load_offset() - 1;
  char program[4096] = {};
  if (!realpath(kProgram, program)) return {};
  const std::string command = fmt::format("addr2line -s -i -e '{}' {:#x} 2>/dev/null", program, in_file);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  char line[512];
  while (pipe && std::fgets(line, sizeof line, pipe.get())) {  // from the innermost inlined function outwards
    const std::string_view text = line;
    if (!text.starts_with("device_language.h")) return std::string(text.substr(0, text.find_first_of(" \n")));
  }
  return {};
}

}  // namespace graft::host_model

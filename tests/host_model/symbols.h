// What the program's own symbol table says of its .cu files: where their __shared__ arrays lie, and kernels' names.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace graft::host_model {

/// A __shared__ array, which the model makes a static variable of its function.
struct SharedArray {
  char* data;
  std::size_t size;
  std::string name;  // "block_all<128, Sum>(…)::values"
};

/// Every __shared__ array of the program.
/// Errors: there is none, as when the symbol table was stripped: shared memory would keep old values unnoticed; one is
/// in a function that is not in an unnamed namespace, where the linker may put it beyond this search.
const std::vector<SharedArray>& shared_arrays();

/// Demangled name of a function of a .cu file; its address in hexadecimal when it has none.
std::string function_name(const void* function);

/// Source file and line of a return address in a kernel, by the addr2line of the compiler's tools; "" without them.
std::string place_of(const void* return_address);

}  // namespace graft::host_model

#include "apps/openmp_wait.h"
#include "apps/program.h"
#include "data/kept_memory.h"

int main(int argc, char** argv) {
  graft::limit_openmp_spinning(argv);
  graft::keep_freed_memory();
  return graft::run_program(argc, argv);
}

#include "apps/openmp_wait.h"
#include "apps/program.h"

int main(int argc, char** argv) {
  graft::limit_openmp_spinning(argv);
  return graft::run_program(argc, argv);
}

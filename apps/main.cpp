#include "apps/program.h"

int main(int argc, char** argv) { return graft::run_program(argc, argv); }

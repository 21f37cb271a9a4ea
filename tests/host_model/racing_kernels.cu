#include "kernels/cuda/gpu.h"
#include "tests/host_model/wrong_kernels.h"

namespace graft {
namespace {

using host_model::FaultKind;

__global__ void missing_barrier(float* x) {
  __shared__ float values[64];
  values[threadIdx.x] = 0;
  __syncthreads();
  values[threadIdx.x] = x[threadIdx.x];          // missing_barrier
  const float other = values[threadIdx.x ^ 32];  // missing_barrier
  __syncthreads();
  x[threadIdx.x] = other;
}

__global__ void written_again(float* x) {
  __shared__ float sums[2];
  float v = x[threadIdx.x];
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;  // written_again
    __syncthreads();
    v = sums[0] + sums[1];  // written_again
  }
  x[threadIdx.x] = v;
}

__global__ void lockstep(float* x) {
  __shared__ float values[64];
  values[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < 32)
    for (int half = 32; half > 0; half /= 2) values[threadIdx.x] += values[threadIdx.x + unsigned(half)];  // lockstep
}

__global__ void same_element(float* x) {
  x[threadIdx.x / 2] = float(threadIdx.x);  // same_element
}

__global__ void same_pack(float* x) {
  __stwb(reinterpret_cast<uint4*>(x) + threadIdx.x / 8, {threadIdx.x, 0, 0, 0});  // same_pack
}

__global__ void same_element_of_blocks(float* x) {
  x[threadIdx.x] = float(blockIdx.x);  // same_element_of_blocks
}

__global__ void neighbour_block(float* x) {  // in place: one block writes what the other reads
  const unsigned i = blockIdx.x * 64 + threadIdx.x;
  x[i] = x[127 - i] + 1;  // neighbour_block
}

__global__ void count_before_zero(float* x) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 7;
  __syncthreads();
  if (threadIdx.x == 0) count = 0;  // count_before_zero
  atomicAdd(&count, 1);             // count_before_zero
  __syncthreads();
  x[threadIdx.x] = float(count);
}

__global__ void read_unwritten(float* x) {
  __shared__ float values[64];
  if (threadIdx.x != 7) values[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = values[63 - threadIdx.x];  // read_unwritten
}

template <int N>
__global__ void read_left_over(float* x) {
  __shared__ float values[N];
  if (blockIdx.x == 0) values[threadIdx.x] = 1;
  __syncthreads();
  x[blockIdx.x * N + threadIdx.x] = values[N - 1 - threadIdx.x];  // read_left_over
}

/// The last block to come adds what all have stored; a fence is missing before or after the count. x[1] counts.
__device__ bool comes_last(float* x, bool fences_before, bool fences_after) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    x[2 + blockIdx.x] = 3;
    if (fences_before) __threadfence();
    is_last = atomicAdd(reinterpret_cast<int*>(x + 1), 1) == int(gridDim.x) - 1;
    if (fences_after) __threadfence();
  }
  __syncthreads();
  return is_last;
}

__global__ void not_published(float* x) {
  if (!comes_last(x, false, true)) return;
  if (threadIdx.x == 0) x[0] = x[2] + x[3];  // not_published
}

__global__ void no_notice(float* x) {
  if (!comes_last(x, true, false)) return;
  if (threadIdx.x == 0) x[0] = x[2] + x[3];  // no_notice
}

__global__ void last_block(float* x) {
  if (!comes_last(x, true, true)) return;
  if (threadIdx.x == 0) x[0] = x[2] + x[3];
  if (threadIdx.x == 1) *reinterpret_cast<int*>(x + 1) = 0;
}

__global__ void last_block_reads_volatile(float* x) {
  if (!comes_last(x, true, false)) return;
  const volatile float* parts = x + 2;
  if (threadIdx.x == 0) x[0] = parts[0] + __ldcg(x + 3);
}

/// All threads store, each fences, one counts after the barrier.
__global__ void last_block_of_many_stores(float* x) {
  __shared__ bool is_last;
  if (threadIdx.x < 16) x[2 + blockIdx.x * 16 + threadIdx.x] = 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(reinterpret_cast<int*>(x + 1), 1) == int(gridDim.x) - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  if (threadIdx.x < 16) x[2 + threadIdx.x] += x[18 + threadIdx.x];
}

__global__ void warp_with_syncs(float* x) {
  __shared__ float values[64];
  float* const mine = x + blockIdx.x * 64;
  values[threadIdx.x] = mine[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < 32) {
    for (unsigned half = 32; half > 0; half /= 2) {
      const float other = values[threadIdx.x + half];
      __syncwarp();
      values[threadIdx.x] += other;
      __syncwarp();
    }
    mine[threadIdx.x] = values[0];
  }
}

__global__ void neighbouring_bytes(float* x) { reinterpret_cast<unsigned char*>(x)[blockIdx.x * 64 + threadIdx.x] = 1; }

template <void (*Kernel)(float*)>
void launch_two_blocks(float* x) {
  const int zero = 0;
  static_assert(sizeof zero == sizeof *x);
  __builtin_memcpy(x + 1, &zero, sizeof zero);  // the model's device memory is the host's
  gpu::launch("racing", Kernel, {.grid = dim3(2), .block = dim3(64)}, x);
}

}  // namespace

std::vector<WrongKernel> racing_kernels() {
  return {
      {"missing_barrier", launch_two_blocks<missing_barrier>, FaultKind::race, "race"},
      {"written_again", launch_two_blocks<written_again>, FaultKind::race, "race"},
      {"lockstep", launch_two_blocks<lockstep>, FaultKind::race, "race"},
      {"same_element", launch_two_blocks<same_element>, FaultKind::race, "write after write"},
      {"same_pack", launch_two_blocks<same_pack>, FaultKind::race, "write after write"},
      {"same_element_of_blocks", launch_two_blocks<same_element_of_blocks>, FaultKind::race, "two blocks write"},
      {"neighbour_block", launch_two_blocks<neighbour_block>, FaultKind::race, "a block "},
      {"count_before_zero", launch_two_blocks<count_before_zero>, FaultKind::race, "byte 0 of"},
      {"read_unwritten", launch_two_blocks<read_unwritten>, FaultKind::unwritten, "byte 28 of read_unwritten"},
      {"read_left_over", launch_two_blocks<read_left_over<64>>, FaultKind::unwritten, "read before it is written"},
      {"not_published", launch_two_blocks<not_published>, FaultKind::unpublished, "against another block"},
      {"no_notice", launch_two_blocks<no_notice>, FaultKind::unpublished, "against another block"},
  };
}

std::vector<WrongKernel> ordered_kernels() {
  return {
      {"last_block", launch_two_blocks<last_block>, {}, ""},
      {"last_block_reads_volatile", launch_two_blocks<last_block_reads_volatile>, {}, ""},
      {"last_block_of_many_stores", launch_two_blocks<last_block_of_many_stores>, {}, ""},
      {"warp_with_syncs", launch_two_blocks<warp_with_syncs>, {}, ""},
      {"neighbouring_bytes", launch_two_blocks<neighbouring_bytes>, {}, ""},
  };
}

}  // namespace graft

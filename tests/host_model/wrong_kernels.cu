#include "tests/host_model/wrong_kernels.h"

#include "kernels/cuda/gpu.h"

namespace graft {
namespace {

using host_model::FaultKind;

constexpr unsigned kAll = 0xffffffffu;

__global__ void early_return(float* x) {
  if (threadIdx.x >= 40) return;
  x[threadIdx.x] = 1;
  __syncthreads();  // early_return
}

__global__ void two_barriers(float* x) {
  if (threadIdx.x < 16) {
    x[threadIdx.x] = 1;
    __syncthreads();  // two_barriers
  } else {
    x[threadIdx.x] = 2;
    __syncthreads();
  }
}

__global__ void uneven_loop(float* x) {
  for (unsigned i = 0; i < 2 + threadIdx.x % 2; ++i) {
    x[threadIdx.x] += 1;
    __syncthreads();
  }
  __syncthreads();  // uneven_loop
}

__global__ void shuffle_with_returned(float* x) {
  if (threadIdx.x == 0 || threadIdx.x == 31) return;          // in every order, somebody has returned or will
  x[threadIdx.x] = __shfl_xor_sync(kAll, x[threadIdx.x], 1);  // shuffle_with_returned
}

__global__ void shuffle_outside_mask(float* x) {
  x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 1);  // shuffle_outside_mask
}

__global__ void shuffle_from_outside_mask(float* x) {                                       // lane 15 reads lane 16
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_down_sync(0x0000ffffu, x[threadIdx.x], 1);  // shuffle_from_outside_mask
}

__global__ void shuffle_beyond_block(float* x) {               // 40 threads
  x[threadIdx.x] = __shfl_down_sync(kAll, x[threadIdx.x], 1);  // shuffle_beyond_block
}

__global__ void two_shuffles(float* x) {
  if (threadIdx.x % 2 == 1)
    x[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 1);  // two_shuffles
  else
    x[threadIdx.x] = __shfl_xor_sync(kAll, 2.0f, 1);
}

__global__ void shuffle_against_barrier(float* x) {
  if (threadIdx.x % 2 == 1)
    __syncthreads();  // shuffle_against_barrier
  else
    x[threadIdx.x] = __shfl_xor_sync(kAll, 2.0f, 1);
}

__global__ void trapping(float* x) {
  if (x[threadIdx.x] == 1) __trap();  // trapping
}

template <void (*Kernel)(float*)>
void launch_64(float* x) {
  gpu::launch("wrong", Kernel, {.grid = dim3(2), .block = dim3(64)}, x);
}

__global__ void unwritten(float* x) {
  __shared__ float values[64];
  if (threadIdx.x != 7) values[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = values[63 - threadIdx.x];
}

template <int N>
__global__ void left_over(float* x) {
  __shared__ float values[N];
  if (blockIdx.x == 0) values[threadIdx.x] = 1;
  __syncthreads();
  x[blockIdx.x * N + threadIdx.x] = values[N - 1 - threadIdx.x];
}

/// Keeps the compiler from seeing where it stores.
__device__ __attribute__((noinline)) void store(float* p, int i, float v) { p[i] = v; }

__global__ void beyond_shared(float* x) {
  __shared__ float values[64];
  store(values, int(threadIdx.x) + 1, 1);
  __syncthreads();
  x[threadIdx.x] = values[threadIdx.x];
}

__global__ void beyond_global(float* x) { store(x, int(threadIdx.x) + 65, 1); }

__global__ void misaligned(float* x) { *reinterpret_cast<float4*>(x + 1) = float4{1, 2, 3, 4}; }

__global__ void global_store_to_shared(float* x) {
  __shared__ float values[64];
  __stwb(values + threadIdx.x, 1.0f);  // global_store_to_shared
  x[threadIdx.x] = values[threadIdx.x];
}

__global__ void global_load_of_shared(float* x) {
  __shared__ float values[64];
  values[threadIdx.x] = 1;
  x[threadIdx.x] = __ldcg(values + threadIdx.x);  // global_load_of_shared
}

/// Every piece of the language, with results that can be worked out: t is the thread.
__global__ void right(float* x, int* integers) {
  const int t = int(threadIdx.y * blockDim.x + threadIdx.x), lane = t % warpSize;
  __shared__ int reversed[96];
  reversed[95 - t] = t;
  const int third = __syncthreads_count(t % 3 == 0);
  float v = float(reversed[t]);                    // 95 - t
  v += __shfl_down_sync(kAll, v, 1);               // the last lane adds its own
  v += float(__shfl_sync(kAll, t, 5, 8));          // lane 5 of each eight
  v += float(__shfl_up_sync(kAll, double(t), 2));  // the first two lanes add their own
  if (__ballot_sync(kAll, lane % 2) != 0xaaaaaaaau) v = -1;
  if (__any_sync(kAll, lane == 40) || !__all_sync(kAll, lane < 32)) v = -1;
  if (lane < 16) v += float(__shfl_xor_sync(0x0000ffffu, lane, 3));
  __syncwarp();
  x[t] = v + float(third);
  atomicAdd(&integers[0], t);
  atomicMax(&integers[1], t);
  atomicInc(reinterpret_cast<unsigned*>(&integers[2]), 9);
  if (__syncthreads_or(t == 17) && __syncthreads_and(t >= 0) && t == 0) integers[3] = __clz(1) + __popc(7u);
}

}  // namespace

std::vector<WrongKernel> wrong_kernels() {
  return {
      {"early_return", launch_64<early_return>, FaultKind::barrier, "24 of 64 threads have returned"},
      {"two_barriers", launch_64<two_barriers>, FaultKind::barrier, "different barriers"},
      {"uneven_loop", launch_64<uneven_loop>, FaultKind::barrier, "different barriers"},
      {"shuffle_with_returned", launch_64<shuffle_with_returned>, FaultKind::collective, "returned"},
      {"shuffle_outside_mask", launch_64<shuffle_outside_mask>, FaultKind::collective, "lacks the lane that calls"},
      {"shuffle_from_outside_mask", launch_64<shuffle_from_outside_mask>, FaultKind::collective,
       "lane 15 reads lane 16, which is not in mask 0000ffff"},
      {"shuffle_beyond_block", [](float* x) { gpu::launch("wrong", shuffle_beyond_block, {.block = dim3(40)}, x); },
       FaultKind::collective, "names lanes that the block does not have"},
      {"two_shuffles", launch_64<two_shuffles>, FaultKind::collective, "different collectives"},
      {"shuffle_against_barrier", launch_64<shuffle_against_barrier>, FaultKind::deadlock, "waits for the block"},
      {"trapping", launch_64<trapping>, FaultKind::trap, "__trap()"},
      {"global_store_to_shared", launch_64<global_store_to_shared>, FaultKind::space, "in shared memory"},
      {"global_load_of_shared", launch_64<global_load_of_shared>, FaultKind::space, "in shared memory"},
  };
}

void launch_unwritten(float* x) { launch_64<unwritten>(x); }
void launch_left_over(float* x) { launch_64<left_over<64>>(x); }
void launch_too_many_threads(float* x) { gpu::launch("too many", trapping, {.block = dim3(1025)}, x); }
void launch_beyond_shared(float* x) { launch_64<beyond_shared>(x); }
void launch_beyond_global(float* x) { launch_64<beyond_global>(x); }
void launch_misaligned(float* x) { launch_64<misaligned>(x); }
void launch_right(float* x, int* integers) { gpu::launch("right", right, {.block = dim3(8, 12)}, x, integers); }

}  // namespace graft

// Kernels as CUPTI reports them, with the device call that each belongs to. The library is opened when it is first
// asked for: nothing is linked to it. Where the toolkit has no CUPTI headers, kernel_tracer_absent.cpp takes this
// file's place. Source: CUPTI's documentation, "Activity API" and "External Correlation".
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

/// The library's calls that are used here.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push_external = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop_external = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;
};

void* open_library() {
  const std::string versioned = "libcupti.so." + std::to_string(CUDART_VERSION / 1000);
  std::vector<std::string> folders{"", "/usr/local/cuda/lib64/", "/usr/local/cuda/extras/CUPTI/lib64/"};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* home = std::getenv(variable))
      for (const char* folder : {"/lib64/", "/lib/", "/extras/CUPTI/lib64/"})
        folders.push_back(std::string(home) + folder);
  for (const std::string& folder : folders)
    for (const std::string& name : {versioned, std::string("libcupti.so")})
      if (void* library = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  throw Error(versioned + " is not found; it is part of the CUDA toolkit, name its folder in LD_LIBRARY_PATH");
}

template <class F>
void find(void* library, F& function, const char* name) {
  function = reinterpret_cast<F>(dlsym(library, name));
  if (!function) throw Error(std::string("CUPTI has no ") + name);
}

Cupti load() {
  void* const library = open_library();
  Cupti c;
  find(library, c.register_callbacks, "cuptiActivityRegisterCallbacks");
  find(library, c.enable, "cuptiActivityEnable");
  find(library, c.disable, "cuptiActivityDisable");
  find(library, c.flush_all, "cuptiActivityFlushAll");
  find(library, c.next_record, "cuptiActivityGetNextRecord");
  find(library, c.push_external, "cuptiActivityPushExternalCorrelationId");
  find(library, c.pop_external, "cuptiActivityPopExternalCorrelationId");
  find(library, c.result_string, "cuptiGetResultString");
  return c;
}

const Cupti& cupti() {
  static const Cupti loaded = load();
  return loaded;
}

void check_cupti(CUptiResult result, const char* what) {
  if (result == CUPTI_SUCCESS) return;
  const char* text = "unknown error";
  cupti().result_string(result, &text);
  throw Error(std::string("CUPTI, ") + what + ": " + text);
}

/// CUPTI's callbacks carry no data of ours, and may come from a thread of its own.
struct Collected {
  std::mutex mutex;
  ActivityRecords records;
};
Collected& collected() {
  static Collected all;
  return all;
}

std::string demangled(const char* name) {
  int status = 0;
  char* const text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : name;
  std::free(text);
  return result;
}

template <class Record>
DeviceActivity activity(const Record& r, DeviceActivity::Kind kind, std::string name) {
  return {.kind = kind,
          .name = std::move(name),
          .begin_ns = std::int64_t(r.start),
          .end_ns = std::int64_t(r.end),
          .stream = r.streamId,
          .correlation = r.correlationId};
}

/// Later versions of a record begin as earlier ones do, so CUDA 12 and 13 are read alike.
void add(ActivityRecords& records, const CUpti_Activity& record) {
  using Kind = DeviceActivity::Kind;
  if (record.kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    const auto& kernel = reinterpret_cast<const CUpti_ActivityKernel9&>(record);
    records.activities.push_back(activity(kernel, Kind::kernel, demangled(kernel.name)));
  } else if (record.kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    records.activities.push_back(activity(reinterpret_cast<const CUpti_ActivityMemcpy5&>(record), Kind::copy, "copy"));
  } else if (record.kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    records.activities.push_back(activity(reinterpret_cast<const CUpti_ActivityMemset4&>(record), Kind::fill, "fill"));
  } else if (record.kind == CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION) {
    const auto& call = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
    records.call_of[call.correlationId] = call.externalId;
  }
}

constexpr std::size_t kBufferBytes = std::size_t{8} << 20, kBufferAlignment = 8;

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *bytes = *buffer ? kBufferBytes : 0;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t filled_bytes) {
  Collected& all = collected();
  const std::scoped_lock lock(all.mutex);
  CUpti_Activity* record = nullptr;
  while (cupti().next_record(buffer, filled_bytes, &record) == CUPTI_SUCCESS) add(all.records, *record);
  std::free(buffer);
}

/// Of API calls only that each belongs to a device call.
constexpr std::array kKinds{
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET,
    CUPTI_ACTIVITY_KIND_RUNTIME,           CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};

class CuptiTracer final : public KernelTracer {
 public:
  CuptiTracer() {
    check_cupti(cupti().register_callbacks(give_buffer, take_buffer), "registering");
    start();  // so that a refusal is met now
    stop();
  }
  ~CuptiTracer() override {
    if (is_on_) switch_off();
  }

  void start() override {
    collected_anew();
    is_on_ = true;
    for (const CUpti_ActivityKind kind : kKinds) {
      const CUptiResult result = cupti().enable(kind);
      if (result != CUPTI_SUCCESS) switch_off();
      check_cupti(result, "enabling (is another profiler attached?)");
    }
  }
  void begin_call(std::uint64_t number) override {
    check_cupti(cupti().push_external(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, number), "numbering a call");
  }
  void end_call() override { cupti().pop_external(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, nullptr); }
  ActivityRecords stop() override {
    const CUptiResult result = cupti().flush_all(0);
    switch_off();
    check_cupti(result, "reading records");
    return collected_anew();
  }

 private:
  static ActivityRecords collected_anew() {
    const std::scoped_lock lock(collected().mutex);
    return std::exchange(collected().records, {});
  }
  void switch_off() noexcept {
    for (const CUpti_ActivityKind kind : kKinds) cupti().disable(kind);
    is_on_ = false;
  }

  bool is_on_ = false;
};

}  // namespace

std::unique_ptr<KernelTracer> CudaBackend::make_kernel_tracer() {
  stream();  // CUPTI wants a context
  return std::make_unique<CuptiTracer>();
}

}  // namespace graft

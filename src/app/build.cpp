#include "app/build.h"

#include "app/version.h"
#include "base/error.h"
#include "base/threads.h"

namespace plsc {

Backend build_backend(const Config& config, int threads) {
  if (config.device == "cuda") {
    fail_hint("use device: cpu, or auto", "device: cuda: this build of plsc-train has no CUDA backend");
  }
  if (config.comm.backend == "nccl") {
    fail_hint("use comm.backend: auto or mpi", "comm.backend: nccl: this build of plsc-train has no NCCL");
  }
  return make_cpu_backend(threads);
}

Session::Session(const Config& config, World& world)
    : log(world.rank()),
      backend(build_backend(config, world.threads())),
      context{backend,
              world.device_collective(),
              world.host_collective(),
              log,
              activation_type(config, *backend.device),
              config.seed,
              config.train.deterministic == "true"} {
  for (const std::string& warning : world.warnings()) log.warn("{}", warning);
}

Dtype activation_type(const Config& config, const Device& device) {
  if (config.train.precision == "fp32") return Dtype::f32;
  PLSC_CHECK(config.train.precision == "bf16", "precision {}", config.train.precision);
  if (!device.supports(Dtype::bf16)) {
    fail_hint("use train.precision: fp32", "train.precision: bf16: {} has no bf16 instructions (AVX-512 BF16 or AMX)",
              device.description());
  }
  return Dtype::bf16;
}

int64_t decide_classes(Context& context, const Config& config, const DataSource& source) {
  const int64_t classes = config.head.classes > 0 ? config.head.classes : source.classes();
  if (source.classes() == 0) {
    fail_hint("training needs a sub-folder a class, a list of \"path label\", or a labelled .rec",
              "{}: the samples have no labels", source.description());
  }
  if (classes >= source.classes()) return classes;  // a source holds every label against its own number
  std::string error;
  try {
    const int64_t begin = range_begin(source.size(), context.ranks(), context.rank());
    const int64_t end = range_begin(source.size(), context.ranks(), context.rank() + 1);
    const int64_t i = source.first_label_beyond(classes, begin, end, &context.log);
    if (i >= 0) {
      fail_hint("set head.classes: auto, or to the number of classes of the data",
                "{}: sample '{}' has label {}, but head.classes is {}, so labels end at {}", source.description(),
                source.name(i), source.label(i), classes, classes - 1);
    }
  } catch (const std::exception& e) {
    error = e.what();
  }
  agree_or_fail(context.host, error);
  return classes;
}

int64_t decide_global_batch(const Config& config, int ranks) {
  const int64_t batch = config.train.batch_per_rank > 0 ? config.train.batch_per_rank * ranks : config.train.batch_size;
  if (batch < ranks * config.train.accumulate) {
    fail_hint("use a larger train.batch_size or fewer ranks",
              "train.batch_size is {}, fewer than {} ranks x {} micro-batches: a rank would get no sample", batch,
              ranks, config.train.accumulate);
  }
  return batch;
}

std::string versions_text(const Device& device, const std::string& mpi_version) {
  return fmt::format("plsc-train {}, {}, {}", kVersion, device.library_versions(), mpi_version);
}

}  // namespace plsc

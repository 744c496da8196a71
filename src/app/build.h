// The composition root: which backend, which data, which network; every valid pairing is decided here.
#pragma once
#include <memory>
#include <string>

#include "comm/world.h"
#include "config/config.h"
#include "data/source.h"
#include "head/margin_head.h"
#include "nn/module.h"
#include "runtime/context.h"

namespace plsc {

/// The backend of `config.device` on `threads` threads. Error naming what this build or machine lacks.
Backend build_backend(const Config& config, int threads);

/// What every command on ranks begins with: the log, the backend, and the context that refers to them.
struct Session {
  Session(const Config& config, World& world);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Log log;
  Backend backend;
  Context context;
};

/// fp32 or bf16, as the device can; Error naming the alternative.
Dtype activation_type(const Config& config, const Device& device);

/// The number of classes: head.classes, or what the source says. Where that is more than head.classes, the ranks look
/// at a part of the labels each; Error on all of them names the first sample whose label is outside.
int64_t decide_classes(Context& context, const Config& config, const DataSource& source);

/// The global batch: train.batch_size, or batch_per_rank times the ranks. Error when a rank would get no sample.
int64_t decide_global_batch(const Config& config, int ranks);

/// "plsc-train 0.1.0, oneDNN 2.6.3, Open MPI 4.1.4"
std::string versions_text(const Device& device, const std::string& mpi_version);

}  // namespace plsc

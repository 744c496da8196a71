// What an algorithm runs on: passed explicitly to everything above the two seams.
#pragma once

#include "backend/backend.h"
#include "base/log.h"
#include "comm/collective.h"
#include "runtime/tape.h"
#include "runtime/timed_collective.h"

namespace plsc {

/// References borrow from app/'s composition root, which outlives all users.
struct Context {
  Backend& backend;
  Collective& comm;  // tensors of the device: gradients, embeddings, logit sums
  Collective& host;  // host values: labels, decisions, file agreements. A communicator of its own
  Log& log;
  Dtype activations = Dtype::f32;  // fp32, bf16 or fp16: train.precision
  uint64_t seed = 1;
  bool sums_in_double = false;  // of gradients over samples and classes: train.deterministic
  bool loss_scaling = false;    // gradients of the network are scaled, and a step may be skipped: train.precision fp16
  Tape* tape = nullptr;         // `comm`, where the device can record; else null
  Collective* norm_group = nullptr;  // of `comm`, the ranks whose batches are measured as one, where not all are
  Collective* node_group =
      nullptr;  // of `comm`, the ranks of this host, where gradients are summed there before the rest
  CommTimes* comm_times = nullptr;  // of all of these (not of `host` where the device works by itself); may be null

  Device& device() const { return *backend.device; }
  /// The ranks that merge their batch statistics, where model.sync_batch_norm has some do.
  Collective& norms() const { return norm_group != nullptr ? *norm_group : comm; }
  NnOps& nn() const { return *backend.nn; }
  int rank() const { return host.rank(); }
  int ranks() const { return host.size(); }
};

/// What one step needs to know wherever randomness or averaging depends on it.
struct StepInfo {
  int64_t step = 0;          // 0, 1, ...: optimizer steps
  int64_t first_sample = 0;  // this rank's first sample within the step's global batch, for the step's state
  int64_t global_batch = 0;  // samples of the optimizer step over all ranks and micro-batches
};

}  // namespace plsc

// What a configuration takes of a device's memory and of the disk: arithmetic on sizes, an estimate. Pure functions.
#pragma once
#include <array>
#include <cstdint>

#include "config/config.h"

namespace plsc::doctor {

/// What decides the size of one class on the rank that holds it, and of all in a checkpoint.
struct HeadShape {
  int64_t embedding = 0;
  bool sampled = false;         // uniform sampling
  double ratio = 1;             // of the classes that take part in a step
  bool lagging = false;         // rows remember their last update
  bool bf16 = false;            // centres are stored in bf16
  bool keeps_gradient = false;  // the update waits for the end of the step
};
HeadShape head_shape(const Config& config, bool loss_scaling);
/// Bytes of device memory a class takes: centre, momentum, and what else goes with it.
double bytes_per_class(const HeadShape& head);
/// Bytes of a class in a checkpoint: centre, momentum and, where rows lag, the last update.
double stored_per_class(const HeadShape& head);

/// Numbers that the network keeps of one image from the forward to the backward pass.
double activations_per_image(const BackboneConfig& backbone, std::array<int64_t, 2> image_size);

struct NetworkShape {
  int64_t parameters = 0;    // and buffers
  double activations = 0;    // of one image
  int64_t images = 0;        // of a rank's micro-batch
  int activation_bytes = 4;  // 2 in 16 bit
  bool gradients_in_double = false;
};
double network_bytes(const NetworkShape& network);

struct Fit {
  double needed = 0, room = 0;  // bytes on the rank that has least room; infinite: the room is not known
  int64_t largest = 0;          // classes that would fit, over all ranks; 0: not even the network, or not known
};
struct FitQuestion {
  int64_t classes = 0;  // 0: not known
  int ranks = 1;
  double per_class = 0, network = 0, room = 0;  // bytes; room: for one rank, infinite where it is not known
};
Fit fit(const FitQuestion& question);

}  // namespace plsc::doctor

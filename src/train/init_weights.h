// Weights taken from elsewhere: another run's checkpoint, or a file of PyTorch's.
#pragma once
#include <string>
#include <vector>

#include "train/state.h"

namespace plsc {

/// Weights of `config.init.from` into a fresh network (step 0); what it does not hold is drawn. Centres, by
/// `config.init.head`: auto takes them where the classes are known to be the same ones: by name, by head.class_map, or
/// where there are as many. Says in the log what was taken and what was not. `names`: of this run's classes.
void init_weights(Context& context, const Config& config, Backbone& backbone, MarginHead& head,
                  const std::vector<std::string>& names);

}  // namespace plsc

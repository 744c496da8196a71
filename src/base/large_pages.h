// Memory of many gigabytes straight from the system: large pages, spread over the NUMA nodes that this process may use.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace plsc {

/// `bytes` zero bytes, whose pages are all there: made by all cores at once, as large pages where the system has them,
/// in turn on the NUMA nodes of the process's affinity mask (so a rank that is bound to one node gets that node's
/// memory). Error, before anything is taken, where the machine or the control group has less left; `what` is what the
/// memory is for.
void* map_large(size_t bytes, const std::string& what);
void unmap_large(void* data, size_t bytes) noexcept;

/// The NUMA nodes that the cores belong to, ascending, as /sys/devices/system/node (or another `root`) has them; empty
/// where that says nothing.
std::vector<int> nodes_of_cores(const std::vector<int>& cores, const std::string& root);

}  // namespace plsc

#include "app/doctor/disk_room.h"

#include <algorithm>

namespace plsc::doctor {

double bytes_wanted(const CheckpointSpace& space) {
  const auto there = static_cast<int64_t>(space.there.size());
  double given_back = 0, most = 0;
  int64_t gone = 0;
  // After `keep` + 1 saves all that were there are gone, and each further save takes what another one gives back.
  for (int64_t saves = 1; saves <= space.keep + 1; ++saves) {
    most = std::max(most, static_cast<double>(saves) * space.one - given_back);
    for (; gone < std::min(there, there + saves - space.keep); ++gone)
      given_back += space.there[static_cast<size_t>(gone)];
  }
  return most;
}

}  // namespace plsc::doctor

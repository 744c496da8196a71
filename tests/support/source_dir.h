// Where the files are that tests read.
#pragma once

#include <cstdlib>
#include <string>

namespace plsc::test {

/// The root of the sources; elsewhere, a folder that has tests/golden at the same place: a bundle sets PLSC_SOURCE_DIR.
inline std::string source_dir() {
  const char* dir = std::getenv("PLSC_SOURCE_DIR");
  return dir != nullptr ? dir : PLSC_SOURCE_DIR;
}

}  // namespace plsc::test

// The message of the Error that a piece of code throws: for CHECK_THAT-free tests under Catch2 2 and 3.
#pragma once
#include <initializer_list>
#include <string>

#include "base/error.h"

namespace plsc::test {

/// Empty when `work` throws nothing; other exceptions than Error pass through and fail the test.
template <class Work>
std::string error_text(Work&& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
inline bool contains_all(const std::string& text, std::initializer_list<std::string> parts) {
  for (const std::string& part : parts)
    if (!contains(text, part)) return false;
  return true;
}

}  // namespace plsc::test

#include "base/error.h"

namespace plsc {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw LogicError(
      fmt::format("internal error at {}:{}: {}{}{}", file, line, condition, message.empty() ? "" : ": ", message));
}

}  // namespace plsc

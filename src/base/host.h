// This machine's name.
#pragma once
#include <string>

namespace plsc {

std::string this_host();

}  // namespace plsc

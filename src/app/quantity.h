// Numbers with their units, as people read them.
#pragma once
#include <string>

namespace plsc {

/// "139.8 GiB", "12.3 GB/s", "402 GFLOP/s", "3400 images/s", "12.1 us", "16": a number in the words of its unit. Units:
/// "B", "B/s", "FLOP/s", "s", "" (a plain number, its digits in groups), or any other word.
std::string quantity(double number, const std::string& unit);

}  // namespace plsc

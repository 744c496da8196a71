// Numbers with their units, as people read and write them.
#pragma once
#include <cstdint>
#include <string>

namespace plsc {

/// "139.8 GiB", "12.3 GB/s", "402 GFLOP/s", "3400 images/s", "12.1 us", "16": a number in the words of its unit. Units:
/// "B", "B/s", "FLOP/s", "s", "" (a plain number, its digits in groups), or any other word.
std::string quantity(double number, const std::string& unit);

/// What stands behind an option of the command line, written as in a configuration. Throw Error "--option: found 'x',
/// expected ...".
/// Bytes, of a machine's memory: "80GiB". A number alone that is below a mebibyte is one whose unit was forgotten.
int64_t memory_option(const std::string& option, const std::string& text);
double positive_option(const std::string& option, const std::string& text);
int64_t whole_option(const std::string& option, const std::string& text, int64_t most);  // from 1

}  // namespace plsc

// Classes that came, went or moved between a checkpoint and the run that takes it up: which stored class centre each
// class goes on with.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plsc {

struct ClassMap {
  int64_t stored = 0, classes = 0;  // of the checkpoint, and of this run
  /// (classes): the stored class whose centre a class takes, -1 for a new one. Empty: each takes that of its own
  /// number.
  std::vector<int64_t> from;
  int64_t added = 0;  // classes that start at random, unused places among them
  int64_t left = 0;   // stored classes whose centre none takes
  int64_t moved = 0;  // classes that had another number
  bool by_name = false;

  bool same() const { return from.empty(); }
  static ClassMap identity(int64_t classes) { return {classes, classes, {}, 0, 0, 0, false}; }
  /// "600 classes -> 603: 3 new, 2 left out, 41 with another number (matched by name)"
  std::string text() const;
};

/// The classes of one side. Names are empty where the data has none; ids beyond them are unused places.
struct ClassList {
  int64_t count = 0;
  const std::vector<std::string>& names;
};

struct ClassMapping {
  std::string file;  // for messages; empty: none is given
  std::string text;  // lines "OLD<TAB>NEW": renamed; "OLD<TAB>-": left out. Names where both sides have them, else ids.
};

/// A stored class that neither this run nor the mapping has.
enum class Leaving {
  error,    // a resume: a wrong data folder must not cost centres
  allowed,  // weights for other work
};

struct ClassMapArgs {
  ClassMapping mapping;
  Leaving leaving = Leaving::error;
  std::string where;  // the checkpoint, for messages
};

/// Classes are the same by name where both sides know names, else by number; the mapping comes before either. Error
/// where a line of the mapping fits neither side, naming the line.
ClassMap map_classes(const ClassList& stored, const ClassList& now, const ClassMapArgs& args);

}  // namespace plsc

// The table of every key: one line a key. Reading, printing, the reference and the origins all go through it.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "config/value_types.h"

namespace plsc {

/// What the same thing is called elsewhere, where it exists there.
struct Peers {
  std::string arcface_torch, plsc;
};

struct Field {
  std::string key;       // "train.batch_size"
  std::string expected;  // "a whole number >= 1, or auto"
  std::string meaning;
  Peers peers;
  bool takes_mapping = false;
  std::function<void(const Node& node, Config& config)> read;
  std::function<std::string(const Config& config)> print;
};

/// In the order of the reference.
std::vector<Field> config_fields();

/// Adds the keys of one part of the configuration, all below one prefix.
template <class Part>
class Section {
 public:
  using Get = Part& (*)(Config&);
  Section(std::vector<Field>& fields, std::string prefix, Get get)
      : fields_(fields), prefix_(std::move(prefix)), get_(get) {}

  template <class T>
  Section& key(const std::string& name, T Part::*member, ValueType<T> type, std::string meaning, Peers peers = {}) {
    Field field;
    field.key = prefix_ + name;
    field.expected = type.expected;
    field.meaning = std::move(meaning);
    field.peers = std::move(peers);
    field.takes_mapping = type.takes_mapping;
    field.read = [get = get_, member, type, key = field.key](const Node& node, Config& config) {
      get(config).*member = read_value(node, key, type);
    };
    field.print = [get = get_, member, type](const Config& config) {
      // `get` only finds the part; nothing is written through it here.
      return type.print(get(const_cast<Config&>(config)).*member);
    };
    fields_.push_back(std::move(field));
    return *this;
  }

 private:
  std::vector<Field>& fields_;
  std::string prefix_;
  Get get_;
};

// The sections, a file each where they are long.
void add_data_fields(std::vector<Field>& fields);
void add_model_fields(std::vector<Field>& fields);
void add_training_fields(std::vector<Field>& fields);
void add_run_fields(std::vector<Field>& fields);

}  // namespace plsc

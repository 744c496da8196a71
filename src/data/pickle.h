// A reader of Python pickles that executes nothing: it builds a graph of plain values and knows by name the few
// constructors that plain data needs (numpy arrays, dtypes and scalars; bytes and bytearrays). Anything else is
// refused. The opcodes and their meaning: CPython's Lib/pickletools.py documents them (protocols 0 to 5).
#pragma once
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace plsc {

/// Index of a node in the reader's arena: pickles share and even nest objects in themselves, so values refer by number.
using PickleRef = uint32_t;

enum class PickleKind : uint8_t {
  none,
  boolean,
  integer,
  real,
  bytes,  // bytes, bytearray, and str of Python 2
  text,   // unicode, as UTF-8
  list,
  tuple,
  dict,    // keys and values in turn
  global,  // one of the names that are known
  dtype,   // a numpy dtype: its name is "u1", "b1", ...
  array,   // a numpy array: its dtype, its raw bytes
};

struct PickleNode {
  PickleKind kind = PickleKind::none;
  int64_t integer = 0;  // boolean, integer
  double real = 0;
  std::string_view bytes;        // bytes, text, array; name of a global or a dtype
  std::vector<PickleRef> items;  // list, tuple, dict; array of objects: the list of its elements alone
  PickleRef dtype = 0;           // array
};

/// Parses a whole pickle. Memory is bounded by a small multiple of the data's size.
class PickleReader {
 public:
  /// `data` must outlive the reader. Throws Error "NAME, offset N: ..." for damage and for what is refused.
  PickleReader(std::span<const uint8_t> data, std::string name);
  PickleRef parse();
  const PickleNode& node(PickleRef ref) const { return nodes_[ref]; }

 private:
  [[noreturn]] void bad(const std::string& what) const;
  // Bytes of the data.
  uint8_t byte();
  std::string_view take(uint64_t count);
  std::string_view line();
  uint64_t little(int bytes);
  // Nodes.
  PickleRef make(PickleKind kind);
  void push(PickleRef ref) { stack_.push_back(ref); }
  void push_integer(PickleKind kind, int64_t value);
  void push_bytes(PickleKind kind, std::string_view bytes);
  void push_owned(PickleKind kind, std::string bytes);
  PickleRef pop();
  std::vector<PickleRef> pop_to_mark();
  // Opcodes, by family; false: not one of the family.
  bool number_opcode(uint8_t op);
  bool string_opcode(uint8_t op);
  bool container_opcode(uint8_t op);
  bool stack_opcode(uint8_t op);
  bool object_opcode(uint8_t op);
  void decimal_integer();
  void decimal_long();
  void long_bytes(uint64_t count);
  void quoted_string();
  void raw_unicode();
  void append(const std::vector<PickleRef>& items, PickleKind kind);
  void memoize(uint64_t key);
  void recall(uint64_t key);
  // Constructors.
  void push_global(std::string_view module, std::string_view name);
  void check_few(PickleRef ref) const;
  void reduce();
  PickleRef construct(const PickleNode& function, const std::vector<PickleRef>& args);
  PickleRef scalar(const std::vector<PickleRef>& args);
  PickleRef encoded(PickleRef text);
  PickleRef make_dtype(const std::vector<PickleRef>& args);
  PickleRef frombuffer(const std::vector<PickleRef>& args);
  void build();
  void build_array(PickleRef array, const PickleNode& state);

  std::span<const uint8_t> data_;
  std::string name_;
  size_t at_ = 0, opcode_at_ = 0;
  std::vector<PickleNode> nodes_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleRef> memo_;
  std::deque<std::string> owned_;  // bytes that do not stand in the data as they are
  size_t owned_bytes_ = 0;
};

}  // namespace plsc

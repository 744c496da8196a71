// What pickles of images construct: numpy arrays, dtypes and scalars, bytes and bytearrays. By name, nothing else.
#include <array>
#include <cstring>

#include "base/error.h"
#include "data/pickle.h"

namespace plsc {
namespace {

struct KnownGlobal {
  std::string_view module, name, meaning;
};

// numpy 2 moved numpy.core to numpy._core; Python 3 renamed __builtin__.
constexpr std::array<KnownGlobal, 13> kKnown{{
    {"numpy.core.multiarray", "_reconstruct", "reconstruct"},
    {"numpy._core.multiarray", "_reconstruct", "reconstruct"},
    {"numpy.core.multiarray", "scalar", "scalar"},
    {"numpy._core.multiarray", "scalar", "scalar"},
    {"numpy.core.numeric", "_frombuffer", "frombuffer"},
    {"numpy._core.numeric", "_frombuffer", "frombuffer"},
    {"numpy", "ndarray", "ndarray"},
    {"numpy", "dtype", "dtype"},
    {"_codecs", "encode", "encode"},
    {"__builtin__", "bytearray", "bytes"},
    {"builtins", "bytearray", "bytes"},
    {"__builtin__", "bytes", "bytes"},
    {"builtins", "bytes", "bytes"},
}};

/// The code points of UTF-8 as Latin-1 bytes; false where one is above 255 or the text is not UTF-8.
bool to_latin1(std::string_view utf8, std::string& out) {
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto c = static_cast<unsigned char>(utf8[i]);
    if (c < 0x80) {
      out += utf8[i];
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < utf8.size() && (utf8[i + 1] & 0xc0) == 0x80) {
      out += static_cast<char>((c & 3) << 6 | (utf8[++i] & 63));
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

void PickleReader::push_global(std::string_view module, std::string_view name) {
  for (const KnownGlobal& known : kKnown) {
    if (known.module == module && known.name == name) return push_bytes(PickleKind::global, known.meaning);
  }
  bad(fmt::format("asks for {}.{}, which a set of images does not need: refused, nothing was executed", module, name));
}

PickleRef PickleReader::encoded(PickleRef text) {
  std::string latin1;
  if (!to_latin1(nodes_[text].bytes, latin1)) bad("bytes as text hold a character above 255");
  push_owned(PickleKind::bytes, std::move(latin1));
  return pop();
}

PickleRef PickleReader::make_dtype(const std::vector<PickleRef>& args) {
  if (args.empty() || (nodes_[args[0]].kind != PickleKind::text && nodes_[args[0]].kind != PickleKind::bytes)) {
    bad("a numpy dtype without a name");
  }
  std::string_view name = nodes_[args[0]].bytes;
  while (!name.empty() && (name[0] == '|' || name[0] == '<')) name.remove_prefix(1);
  const PickleRef ref = make(PickleKind::dtype);
  nodes_[ref].bytes = name;
  return ref;
}

/// A numpy scalar: a bool or an integer, little-endian.
PickleRef PickleReader::scalar(const std::vector<PickleRef>& args) {
  if (args.size() != 2 || nodes_[args[0]].kind != PickleKind::dtype || nodes_[args[1]].kind != PickleKind::bytes) {
    bad("a numpy scalar without type and bytes");
  }
  const std::string_view type = nodes_[args[0]].bytes, bytes = nodes_[args[1]].bytes;
  const bool known = type == "b1" || type == "bool" || type == "u1" || type == "i1" || type == "i4" || type == "i8";
  if (!known || bytes.empty() || bytes.size() > 8) bad(fmt::format("a numpy scalar of type {}", type));
  int64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    value |= static_cast<int64_t>(static_cast<unsigned char>(bytes[i])) << 8 * i;
  }
  const PickleRef ref = make(PickleKind::integer);
  nodes_[ref].integer = value;
  return ref;
}

/// numpy.core.numeric._frombuffer(buffer, dtype, shape, order): protocol 5.
PickleRef PickleReader::frombuffer(const std::vector<PickleRef>& args) {
  if (args.size() < 2 || nodes_[args[0]].kind != PickleKind::bytes || nodes_[args[1]].kind != PickleKind::dtype) {
    bad("a numpy array without buffer and type");
  }
  const PickleRef ref = make(PickleKind::array);
  nodes_[ref].bytes = nodes_[args[0]].bytes;
  nodes_[ref].dtype = args[1];
  return ref;
}

PickleRef PickleReader::construct(const PickleNode& function, const std::vector<PickleRef>& args) {
  const std::string_view what = function.bytes;
  const auto kind = [&](size_t i) { return i < args.size() ? nodes_[args[i]].kind : PickleKind::none; };
  if (what == "reconstruct") {
    if (kind(0) != PickleKind::global || nodes_[args[0]].bytes != "ndarray") bad("an array of an unknown class");
    return make(PickleKind::array);
  }
  if (what == "dtype") return make_dtype(args);
  if (what == "scalar") return scalar(args);
  if (what == "frombuffer") return frombuffer(args);
  if (what == "encode" || what == "bytes") {
    if (args.empty() && what == "bytes") return push_bytes(PickleKind::bytes, {}), pop();
    if (kind(0) == PickleKind::text) {
      const std::string_view codec =
          kind(1) == PickleKind::text || kind(1) == PickleKind::bytes ? nodes_[args[1]].bytes : "";
      if (codec != "latin1" && codec != "latin-1") bad(fmt::format("bytes encoded as '{}', expected latin1", codec));
      return encoded(args[0]);
    }
    if (kind(0) == PickleKind::bytes && args.size() == 1) return args[0];
  }
  bad(fmt::format("a call of {} with arguments that it does not take here", what));
}

/// Calls and states are copied before they are used; one of very many values, used again and again, would take long.
void PickleReader::check_few(PickleRef ref) const {
  constexpr size_t kMost = 16;  // numpy's have up to 9
  const size_t count = nodes_[ref].items.size();
  if (count > kMost) bad(fmt::format("a call or a state of {} values", count));
}

void PickleReader::reduce() {
  const PickleRef args = pop(), function = pop();
  check_few(args);
  if (nodes_[function].kind != PickleKind::global || nodes_[args].kind != PickleKind::tuple) {
    bad("a call of something that is no function");
  }
  // Copies: constructing adds nodes, which may move the arena.
  const PickleNode called = nodes_[function];
  const std::vector<PickleRef> items = nodes_[args].items;
  push(construct(called, items));
}

/// ndarray.__setstate__: (version, shape, dtype, is_fortran, raw bytes, or a list of objects).
void PickleReader::build_array(PickleRef array, const PickleNode& state) {
  if (state.kind != PickleKind::tuple || state.items.size() != 5 || nodes_[state.items[2]].kind != PickleKind::dtype) {
    bad("a numpy array without its state");
  }
  const PickleRef dtype = state.items[2];
  PickleRef raw = state.items[4];
  if (nodes_[raw].kind == PickleKind::text) raw = encoded(raw);  // Python 2's str, pickled again by Python 3
  nodes_[array].dtype = dtype;
  if (nodes_[raw].kind == PickleKind::list && nodes_[dtype].bytes.substr(0, 1) == "O") {
    nodes_[array].items = {raw};  // not a copy: many arrays may share one list
  } else if (nodes_[raw].kind == PickleKind::bytes) {
    nodes_[array].bytes = nodes_[raw].bytes;
  } else {
    bad("a numpy array without its bytes");
  }
}

void PickleReader::build() {
  const PickleRef state_ref = pop(), object = pop();
  check_few(state_ref);
  const PickleNode state = nodes_[state_ref];
  push(object);
  if (nodes_[object].kind == PickleKind::array) return build_array(object, state);
  if (nodes_[object].kind == PickleKind::dtype) {
    // (version, byte order, ...)
    if (state.kind != PickleKind::tuple || state.items.size() < 2) bad("a numpy dtype without its state");
    if (nodes_[state.items[1]].bytes == ">") bad("a numpy array of big-endian numbers");
    return;
  }
  bad("state for an object that has none");
}

bool PickleReader::object_opcode(uint8_t op) {
  switch (op) {
    case 'c': {
      const std::string_view module = line(), name = line();
      return push_global(module, name), true;
    }
    case 0x93: {
      const PickleNode name = nodes_[pop()], module = nodes_[pop()];
      if (name.kind != PickleKind::text || module.kind != PickleKind::text) bad("a global without a name");
      return push_global(module.bytes, name.bytes), true;
    }
    case 'R':
      return reduce(), true;
    case 'b':
      return build(), true;
    default:
      return false;
  }
}

}  // namespace plsc

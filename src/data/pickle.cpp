// The pickle machine: opcodes, stack and memo. Constructors stand in pickle_objects.cpp.
#include "data/pickle.h"

#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace plsc {
namespace {

// The three values that have no state; every pickle refers to these nodes.
constexpr PickleRef kNone = 0, kFalse = 1, kTrue = 2;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18 & 7));
    out += static_cast<char>(0x80 | (c >> 12 & 63));
    out += static_cast<char>(0x80 | (c >> 6 & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
}

/// `digits` hexadecimal digits of `s` from `at` on; -1: they are not there.
int64_t hex_number(std::string_view s, size_t at, size_t digits) {
  if (at + digits > s.size()) return -1;
  int64_t value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const int d = hex_digit(s[at + i]);
    if (d < 0) return -1;
    value = value * 16 + d;
  }
  return value;
}

}  // namespace

PickleReader::PickleReader(std::span<const uint8_t> data, std::string name) : data_(data), name_(std::move(name)) {
  nodes_.resize(3);
  nodes_[kFalse].kind = nodes_[kTrue].kind = PickleKind::boolean;
  nodes_[kTrue].integer = 1;
}

void PickleReader::bad(const std::string& what) const { fail("{}, offset {}: {}", name_, opcode_at_, what); }

uint8_t PickleReader::byte() {
  if (at_ >= data_.size()) bad("the pickle is cut off");
  return data_[at_++];
}

std::string_view PickleReader::take(uint64_t count) {
  if (count > data_.size() - at_) {
    bad(fmt::format("the pickle is cut off: {} bytes announced, {} left", count, data_.size() - at_));
  }
  const std::string_view s(reinterpret_cast<const char*>(data_.data()) + at_, static_cast<size_t>(count));
  at_ += static_cast<size_t>(count);
  return s;
}

std::string_view PickleReader::line() {
  const std::string_view rest(reinterpret_cast<const char*>(data_.data()) + at_, data_.size() - at_);
  const auto end = rest.find('\n');
  if (end == std::string_view::npos) bad("the pickle is cut off: a line without end");
  at_ += end + 1;
  return rest.substr(0, end);
}

uint64_t PickleReader::little(int bytes) {
  const std::string_view s = take(static_cast<uint64_t>(bytes));
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(s[static_cast<size_t>(i)])) << 8 * i;
  }
  return value;
}

PickleRef PickleReader::make(PickleKind kind) {
  // A list of bools or images needs few nodes for its bytes; a file of nothing but empty lists is no verification set.
  if (nodes_.size() > (size_t{4} << 20) + data_.size() / 16) bad("too many objects for a verification set");
  nodes_.emplace_back().kind = kind;
  return static_cast<PickleRef>(nodes_.size() - 1);
}

void PickleReader::push_integer(PickleKind kind, int64_t value) {
  const PickleRef ref = make(kind);
  nodes_[ref].integer = value;
  push(ref);
}

void PickleReader::push_bytes(PickleKind kind, std::string_view bytes) {
  const PickleRef ref = make(kind);
  nodes_[ref].bytes = bytes;
  push(ref);
}

void PickleReader::push_owned(PickleKind kind, std::string bytes) {
  owned_bytes_ += bytes.size();
  if (owned_bytes_ > (size_t{1} << 20) + 8 * data_.size()) bad("the strings unfold to more than the file can mean");
  push_bytes(kind, owned_.emplace_back(std::move(bytes)));
}

PickleRef PickleReader::pop() {
  if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) bad("the stack is empty");
  const PickleRef ref = stack_.back();
  stack_.pop_back();
  return ref;
}

std::vector<PickleRef> PickleReader::pop_to_mark() {
  if (marks_.empty()) bad("a mark is missing");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleRef> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

PickleRef PickleReader::parse() {
  for (;;) {
    opcode_at_ = at_;
    const uint8_t op = byte();
    if (op == '.') return pop();
    if (number_opcode(op) || string_opcode(op) || container_opcode(op) || stack_opcode(op) || object_opcode(op))
      continue;
    bad(fmt::format("opcode {:#04x} has no place in a verification set", op));
  }
}

void PickleReader::decimal_integer() {
  const std::string_view text = line();
  if (text == "00" || text == "01") return push(text == "01" ? kTrue : kFalse);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) bad("a number is not one");
  push_integer(PickleKind::integer, value);
}

void PickleReader::decimal_long() {
  std::string_view text = line();
  if (!text.empty() && text.back() == 'L') text.remove_suffix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) bad("a number is not one, or too large");
  push_integer(PickleKind::integer, value);
}

void PickleReader::long_bytes(uint64_t count) {
  if (count > 8) bad("a number of more than 64 bits");
  uint64_t value = little(static_cast<int>(count));
  if (count > 0 && count < 8 && (value >> (8 * count - 1) & 1) != 0) value |= ~uint64_t{0} << 8 * count;
  push_integer(PickleKind::integer, static_cast<int64_t>(value));
}

bool PickleReader::number_opcode(uint8_t op) {
  switch (op) {
    case 'N':
      return push(kNone), true;
    case 0x88:
      return push(kTrue), true;
    case 0x89:
      return push(kFalse), true;
    case 'I':
      return decimal_integer(), true;
    case 'L':
      return decimal_long(), true;
    case 'J':
      return push_integer(PickleKind::integer, static_cast<int32_t>(little(4))), true;
    case 'K':
      return push_integer(PickleKind::integer, byte()), true;
    case 'M':
      return push_integer(PickleKind::integer, static_cast<int64_t>(little(2))), true;
    case 0x8a:
      return long_bytes(byte()), true;
    case 0x8b:
      return long_bytes(little(4)), true;
    case 'F':
    case 'G': {
      double value = 0;
      if (op == 'F') {
        value = std::strtod(std::string(line()).c_str(), nullptr);
      } else {
        uint64_t bits = 0;  // big-endian
        for (const char c : take(8)) bits = bits << 8 | static_cast<unsigned char>(c);
        value = std::bit_cast<double>(bits);
      }
      const PickleRef ref = make(PickleKind::real);
      nodes_[ref].real = value;
      return push(ref), true;
    }
    default:
      return false;
  }
}

/// Python 2's repr of a str, the form of protocol 0.
void PickleReader::quoted_string() {
  std::string_view text = line();
  if (text.size() < 2 || text.front() != text.back() || (text.front() != '\'' && text.front() != '"')) {
    bad("a string without its quotes");
  }
  text = text.substr(1, text.size() - 2);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) bad("a string ends within an escape");
    static constexpr std::string_view kNames = "\\'\"abfnrtv", kValues = "\\'\"\a\b\f\n\r\t\v";
    if (const auto k = kNames.find(text[i]); k != std::string_view::npos) {
      out += kValues[k];
    } else if (text[i] == 'x') {
      const int64_t value = hex_number(text, i + 1, 2);
      if (value < 0) bad("an escape \\x without two digits");
      out += static_cast<char>(value);
      i += 2;
    } else if (text[i] >= '0' && text[i] <= '7') {
      int value = 0;
      size_t digits = 0;
      for (; digits < 3 && i + digits < text.size() && text[i + digits] >= '0' && text[i + digits] <= '7'; ++digits) {
        value = value * 8 + (text[i + digits] - '0');
      }
      out += static_cast<char>(value);
      i += digits - 1;
    } else {
      out += '\\';
      out += text[i];
    }
  }
  push_owned(PickleKind::bytes, std::move(out));
}

/// Protocol 0's unicode: Latin-1 with \uXXXX and \UXXXXXXXX.
void PickleReader::raw_unicode() {
  const std::string_view text = line();
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == 'u' || text[i + 1] == 'U');
    if (!escape) {
      append_utf8(out, static_cast<unsigned char>(text[i]));
      continue;
    }
    const size_t digits = text[i + 1] == 'u' ? 4 : 8;
    const int64_t value = hex_number(text, i + 2, digits);
    if (value < 0 || value > 0x10ffff) bad("an escape \\u without its digits");
    append_utf8(out, static_cast<uint32_t>(value));
    i += 1 + digits;
  }
  push_owned(PickleKind::text, std::move(out));
}

bool PickleReader::string_opcode(uint8_t op) {
  switch (op) {
    case 'S':
      return quoted_string(), true;
    case 'V':
      return raw_unicode(), true;
    case 'U':  // str of Python 2, and bytes
    case 'C':
      return push_bytes(PickleKind::bytes, take(byte())), true;
    case 'T':
    case 'B':
      return push_bytes(PickleKind::bytes, take(little(4))), true;
    case 0x8e:
    case 0x96:
      return push_bytes(PickleKind::bytes, take(little(8))), true;
    case 0x8c:
      return push_bytes(PickleKind::text, take(byte())), true;
    case 'X':
      return push_bytes(PickleKind::text, take(little(4))), true;
    case 0x8d:
      return push_bytes(PickleKind::text, take(little(8))), true;
    case 0x97:
      bad("a buffer outside of the pickle (protocol 5 out-of-band): write it in one file");
    default:
      return false;
  }
}

void PickleReader::append(const std::vector<PickleRef>& items, PickleKind kind) {
  const PickleRef to = pop();
  if (nodes_[to].kind != kind || (kind == PickleKind::dict && items.size() % 2 != 0)) bad("nothing to append to");
  auto& all = nodes_[to].items;
  all.insert(all.end(), items.begin(), items.end());
  push(to);
}

bool PickleReader::container_opcode(uint8_t op) {
  const auto collect = [this](PickleKind kind, std::vector<PickleRef> items) {
    const PickleRef ref = make(kind);
    nodes_[ref].items = std::move(items);
    push(ref);
    return true;
  };
  const auto last = [this](size_t count) {
    std::vector<PickleRef> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  };
  switch (op) {
    case ']':
      return collect(PickleKind::list, {});
    case ')':
      return collect(PickleKind::tuple, {});
    case '}':
      return collect(PickleKind::dict, {});
    case 'l':
      return collect(PickleKind::list, pop_to_mark());
    case 't':
      return collect(PickleKind::tuple, pop_to_mark());
    case 'd':
      return collect(PickleKind::dict, pop_to_mark());
    case 0x85:
    case 0x86:
    case 0x87:
      return collect(PickleKind::tuple, last(op - 0x84u));
    case 'a':
      return append(last(1), PickleKind::list), true;
    case 'e':
      return append(pop_to_mark(), PickleKind::list), true;
    case 's':
      return append(last(2), PickleKind::dict), true;
    case 'u':
      return append(pop_to_mark(), PickleKind::dict), true;
    default:
      return false;
  }
}

void PickleReader::memoize(uint64_t key) {
  if (stack_.empty()) bad("the stack is empty");
  // Python stores an object once, or twice where a call returns its argument.
  if (memo_.size() > 4 * nodes_.size()) bad("more stored objects than there are objects");
  memo_[key] = stack_.back();
}

void PickleReader::recall(uint64_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) bad(fmt::format("object {} was never stored", key));
  push(found->second);
}

bool PickleReader::stack_opcode(uint8_t op) {
  const auto decimal = [this] {
    const std::string_view text = line();
    uint64_t key = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), key);
    if (error != std::errc() || end != text.data() + text.size()) bad("a number is not one");
    return key;
  };
  switch (op) {
    case '(':
      return marks_.push_back(stack_.size()), true;
    case '0':
      return pop(), true;
    case '1':
      return pop_to_mark(), true;
    case '2': {
      const PickleRef top = pop();
      return push(top), push(top), true;
    }
    case 'p':
      return memoize(decimal()), true;
    case 'q':
      return memoize(byte()), true;
    case 'r':
      return memoize(little(4)), true;
    case 0x94:
      return memoize(memo_.size()), true;
    case 'g':
      return recall(decimal()), true;
    case 'h':
      return recall(byte()), true;
    case 'j':
      return recall(little(4)), true;
    case 0x80:
      if (const uint8_t protocol = byte(); protocol > 5) bad(fmt::format("protocol {}, expected 0 to 5", protocol));
      return true;
    case 0x95:  // the length of a frame: a hint for readers that buffer
      return little(8), true;
    case 0x98:  // makes the top read-only
      return true;
    default:
      return false;
  }
}

}  // namespace plsc

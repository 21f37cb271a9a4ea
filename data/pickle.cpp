#include "data/pickle.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kernels/core.h"

namespace graft::pickle {
namespace {

constexpr std::size_t kMaxNodes = 4'000'000;

constexpr std::array<std::string_view, 12> kAllowedGlobals = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
    "torch.FloatStorage",
    "torch.DoubleStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
};

constexpr std::string_view kStateDictAdvice = "save the state dict alone: torch.save(model.state_dict(), path)";

class Machine {
 public:
  Machine(std::span<const std::uint8_t> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  Document run() {
    while (!step()) {
    }
    document_.bytes_read = at_;
    return std::move(document_);
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw Error(fmt::format("pickle in {}, byte {}: {}", file_, at_, reason));
  }

  // Reading the stream.
  std::span<const std::uint8_t> take(std::uint64_t count) {
    if (count > bytes_.size() - at_) fail("the data end early; the file is truncated, download it again");
    const auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  std::uint8_t take_byte() { return take(1)[0]; }
  std::uint64_t take_unsigned(int count) {
    std::uint64_t value = 0;
    const auto part = take(static_cast<std::uint64_t>(count));
    for (int i = 0; i < count; ++i) value |= std::uint64_t{part[static_cast<std::size_t>(i)]} << (8 * i);
    return value;
  }
  std::string take_text(std::uint64_t count) {
    const auto part = take(count);
    return std::string(reinterpret_cast<const char*>(part.data()), part.size());
  }
  std::string take_line() {
    const std::size_t begin = at_;
    while (take_byte() != '\n') {
    }
    return std::string(reinterpret_cast<const char*>(bytes_.data()) + begin, at_ - 1 - begin);
  }

  // The stack.
  Ref create(Node node) {
    if (document_.nodes.size() >= kMaxNodes) fail("more than 4 million values; this is not a state dict");
    document_.nodes.push_back(std::move(node));
    return static_cast<Ref>(document_.nodes.size() - 1);
  }
  void push(Ref ref) {
    // MEMO gets make two bytes of file one entry here, so the stack needs a limit of its own.
    if (stack_.size() >= kMaxNodes) fail("the stack holds more than 4 million values; this is not a state dict");
    stack_.push_back(ref);
  }
  void push_new(Node node) { push(create(std::move(node))); }
  Ref pop() {
    if (stack_.size() <= floor()) fail("an operation takes from an empty stack; the file is damaged");
    const Ref top = stack_.back();
    stack_.pop_back();
    return top;
  }
  Ref top() {
    if (stack_.size() <= floor()) fail("an operation looks at an empty stack; the file is damaged");
    return stack_.back();
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::vector<Ref> pop_to_mark() {
    if (marks_.empty()) fail("an operation misses its MARK; the file is damaged");
    std::vector<Ref> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  Node& node(Ref ref) { return document_.nodes[static_cast<std::size_t>(ref)]; }
  Node& node_of(Ref ref, Kind kind, std::string_view what) {
    if (node(ref).kind != kind) fail(fmt::format("{} has an unexpected type; this is not a state dict", what));
    return node(ref);
  }
  void append_items(Ref ref, Kind kind, std::string_view what, const std::vector<Ref>& items) {
    total_items_ += items.size();
    if (total_items_ > 2 * kMaxNodes) fail("more than 8 million entries; this is not a state dict");
    Node& target = node_of(ref, kind, what);
    target.items.insert(target.items.end(), items.begin(), items.end());
  }
  void push_tuple(std::vector<Ref> items) {
    total_items_ += items.size();
    if (total_items_ > 2 * kMaxNodes) fail("more than 8 million entries; this is not a state dict");
    push_new({.kind = Kind::tuple, .items = std::move(items)});
  }
  void push_short_tuple(std::size_t count) {
    std::vector<Ref> items(count);
    for (std::size_t i = count; i > 0; --i) items[i - 1] = pop();
    push_tuple(std::move(items));
  }
  void memoize(std::uint64_t key) { memo_[key] = top(); }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("a reference to a value that was never stored; the file is damaged");
    push(found->second);
  }

  bool step();
  void push_global();
  void push_long(std::uint64_t count);
  void build();
  void reduce(bool is_new_object);
  void rebuild_tensor(const std::vector<Ref>& arguments);
  void push_persistent();
  std::int64_t integer(Ref ref, std::string_view what) { return node_of(ref, Kind::integer, what).integer; }
  std::vector<std::int64_t> integers(Ref ref, std::string_view what) {
    std::vector<std::int64_t> values;
    for (const Ref item : std::vector<Ref>(node_of(ref, Kind::tuple, what).items))
      values.push_back(integer(item, what));
    return values;
  }

  std::span<const std::uint8_t> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
  Document document_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;  // stack heights; nothing below the last one may be popped
  std::unordered_map<std::uint64_t, Ref> memo_;
  std::size_t total_items_ = 0;
};

/// One opcode; true at STOP.
bool Machine::step() {
  const std::uint8_t opcode = take_byte();
  switch (opcode) {
    case 0x80:  // PROTO
      if (const int protocol = take_byte(); protocol > 5) fail(fmt::format("unknown pickle protocol {}", protocol));
      break;
    case '.':  // STOP
      document_.root = pop();
      return true;
    case 'c':
      push_global();
      break;  // GLOBAL
    case 'q':
      memoize(take_byte());
      break;  // BINPUT
    case 'r':
      memoize(take_unsigned(4));
      break;  // LONG_BINPUT
    case 'h':
      recall(take_byte());
      break;  // BINGET
    case 'j':
      recall(take_unsigned(4));
      break;     // LONG_BINGET
    case '(': {  // MARK
      if (marks_.size() >= kMaxNodes) fail("more than 4 million marks; this is not a state dict");
      marks_.push_back(stack_.size());
      break;
    }
    case ')':
      push_tuple({});
      break;  // EMPTY_TUPLE
    case 't':
      push_tuple(pop_to_mark());
      break;  // TUPLE
    case 0x85:
      push_short_tuple(1);
      break;  // TUPLE1
    case 0x86:
      push_short_tuple(2);
      break;  // TUPLE2
    case 0x87:
      push_short_tuple(3);
      break;  // TUPLE3
    case 'R':
      reduce(false);
      break;  // REDUCE
    case 0x81:
      reduce(true);
      break;  // NEWOBJ
    case 'b':
      build();
      break;  // BUILD
    case 'X':
      push_new({.kind = Kind::text, .text = take_text(take_unsigned(4))});
      break;  // BINUNICODE
    case 'U':
      push_new({.kind = Kind::text, .text = take_text(take_byte())});
      break;  // SHORT_BINSTRING: Python 2
    case 'J':
      push_new({.kind = Kind::integer, .integer = static_cast<std::int32_t>(take_unsigned(4))});
      break;  // BININT
    case 'K':
      push_new({.kind = Kind::integer, .integer = take_byte()});
      break;  // BININT1
    case 'M':
      push_new({.kind = Kind::integer, .integer = static_cast<std::int64_t>(take_unsigned(2))});
      break;  // BININT2
    case 'Q':
      push_persistent();
      break;  // BINPERSID
    case 0x89:
      push_new({.kind = Kind::boolean, .integer = 0});
      break;  // NEWFALSE
    case 0x88:
      push_new({.kind = Kind::boolean, .integer = 1});
      break;  // NEWTRUE
    case 'N':
      push_new({.kind = Kind::none});
      break;     // NONE
    case 'G': {  // BINFLOAT, big-endian
      std::uint64_t bits = 0;
      for (const std::uint8_t byte : take(8)) bits = bits << 8 | byte;
      push_new({.kind = Kind::real, .real = std::bit_cast<double>(bits)});
      break;
    }
    case 0x8a:
      push_long(take_byte());
      break;  // LONG1
    case '}':
      push_new({.kind = Kind::dict});
      break;  // EMPTY_DICT
    case ']':
      push_new({.kind = Kind::list});
      break;     // EMPTY_LIST
    case 'a': {  // APPEND
      const Ref item = pop();
      append_items(top(), Kind::list, "APPEND", {item});
      break;
    }
    case 'e': {  // APPENDS
      const auto items = pop_to_mark();
      append_items(top(), Kind::list, "APPENDS", items);
      break;
    }
    case 's': {  // SETITEM
      const Ref value = pop();
      const Ref key = pop();
      append_items(top(), Kind::dict, "SETITEM", {key, value});
      break;
    }
    case 'u': {  // SETITEMS
      const auto items = pop_to_mark();
      if (items.size() % 2 != 0) fail("SETITEMS with a key but no value; the file is damaged");
      append_items(top(), Kind::dict, "SETITEMS", items);
      break;
    }
    default:
      --at_;
      fail(fmt::format("opcode 0x{:02x} is not one that a state dict needs, so it is refused; {}", opcode,
                       kStateDictAdvice));
  }
  return false;
}

void Machine::push_global() {
  const std::string module = take_line();
  const std::string name = module + "." + take_line();
  for (const std::string_view allowed : kAllowedGlobals) {
    if (name == allowed) return push_new({.kind = Kind::global, .text = name});
  }
  std::string printable;
  for (const char c : name.substr(0, 100)) printable += c >= ' ' && c <= '~' ? c : '?';
  fail(fmt::format("the file asks for the Python object {}, which is refused (nothing was executed); {}", printable,
                   kStateDictAdvice));
}

void Machine::push_long(std::uint64_t count) {
  const std::string digits = take_text(count);
  if (count > 8) return push_new({.kind = Kind::big_integer, .text = digits});
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < digits.size(); ++i)
    value |= std::uint64_t{static_cast<std::uint8_t>(digits[i])} << (8 * i);
  const bool is_negative = count > 0 && (digits.back() & 0x80) != 0;
  if (is_negative && count < 8) value |= ~std::uint64_t{0} << (8 * count);
  push_new({.kind = Kind::integer, .integer = static_cast<std::int64_t>(value)});
}

/// The only state that a state dict carries is OrderedDict's `_metadata` (version numbers), which nothing here needs.
void Machine::build() {
  pop();
  node_of(top(), Kind::dict, "BUILD");
}

void Machine::reduce(bool is_new_object) {
  const std::vector<Ref> arguments = node_of(pop(), Kind::tuple, "a call's arguments").items;
  const std::string callee = node_of(pop(), Kind::global, "a called object").text;
  if (callee == "collections.OrderedDict") {
    Node dict{.kind = Kind::dict};
    if (arguments.size() > 1) fail("OrderedDict with more than one argument; the file is damaged");
    if (arguments.size() == 1) {  // a list of pairs
      for (const Ref pair : std::vector<Ref>(node_of(arguments[0], Kind::list, "OrderedDict's argument").items)) {
        const Node& entry = node(pair);
        if ((entry.kind != Kind::tuple && entry.kind != Kind::list) || entry.items.size() != 2) {
          fail("OrderedDict's argument is not a list of pairs");
        }
        dict.items.insert(dict.items.end(), entry.items.begin(), entry.items.end());
      }
    }
    total_items_ += dict.items.size();
    if (total_items_ > 2 * kMaxNodes) fail("more than 8 million entries; this is not a state dict");
    return push_new(std::move(dict));
  }
  if (is_new_object) fail(fmt::format("{} is made as an object; this is not a state dict", callee));
  if (callee == "torch._utils._rebuild_tensor" || callee == "torch._utils._rebuild_tensor_v2") {
    return rebuild_tensor(arguments);
  }
  if (callee == "torch._utils._rebuild_parameter") {
    if (arguments.empty()) fail("_rebuild_parameter without arguments");
    node_of(arguments[0], Kind::tensor, "a parameter's data");
    return push(arguments[0]);
  }
  fail(fmt::format("{} is called as a function; this is not a state dict", callee));
}

/// (storage, offset, sizes, strides[, requires_grad, backward_hooks[, metadata]])
void Machine::rebuild_tensor(const std::vector<Ref>& arguments) {
  if (arguments.size() < 4) fail("_rebuild_tensor with fewer than four arguments");
  Tensor tensor;
  tensor.storage = static_cast<Ref>(node_of(arguments[0], Kind::storage, "a tensor's storage").integer);
  tensor.offset = integer(arguments[1], "a tensor's offset");
  tensor.shape = integers(arguments[2], "a tensor's shape");
  tensor.strides = integers(arguments[3], "a tensor's strides");
  if (tensor.shape.size() != tensor.strides.size() || tensor.shape.size() > 16)
    fail("a tensor's shape and strides differ");
  document_.tensors.push_back(std::move(tensor));
  push_new({.kind = Kind::tensor, .integer = static_cast<std::int64_t>(document_.tensors.size() - 1)});
}

void Machine::push_persistent() {
  const std::vector<Ref> id = node_of(pop(), Kind::tuple, "a persistent id").items;
  if (id.size() < 5 || id.size() > 6 || node_of(id[0], Kind::text, "a persistent id").text != "storage") {
    fail(fmt::format("a persistent id that is no storage; {}", kStateDictAdvice));
  }
  Storage storage;
  storage.type = node_of(id[1], Kind::global, "a storage's type").text;
  constexpr std::string_view kSuffix = "Storage";
  if (!storage.type.ends_with(kSuffix)) fail(fmt::format("{} is no storage type", storage.type));
  storage.type = storage.type.substr(storage.type.find('.') + 1);
  storage.key = node_of(id[2], Kind::text, "a storage's key").text;
  storage.size = integer(id[4], "a storage's size");
  if (id.size() == 6 && node(id[5]).kind != Kind::none) {  // (view key, offset, size)
    const std::vector<Ref> view = node_of(id[5], Kind::tuple, "a storage's view").items;
    if (view.size() != 3) fail("a storage's view has not three parts");
    storage.view_offset = integer(view[1], "a view's offset");
  }
  document_.storages.push_back(std::move(storage));
  push_new({.kind = Kind::storage, .integer = static_cast<std::int64_t>(document_.storages.size() - 1)});
}

}  // namespace

Ref Document::find(Ref dict, std::string_view key) const {
  const Node& entries = at(dict);
  for (std::size_t i = 0; entries.kind == Kind::dict && i + 1 < entries.items.size(); i += 2) {
    const Node& name = at(entries.items[i]);
    if (name.kind == Kind::text && name.text == key) return entries.items[i + 1];
  }
  return -1;
}

Document parse(std::span<const std::uint8_t> bytes, const std::string& file) { return Machine(bytes, file).run(); }

}  // namespace graft::pickle

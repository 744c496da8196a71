// Verification .bin files: real pickles of Python and numpy, Python 2's opcodes by hand, damage, and hostile ones.
#include <sys/resource.h>

#include <cstdlib>

#include "data/verification_bin.h"
#include "data_support.h"

using namespace plsc;
using namespace plsc::test;

namespace {

bool have_python() { return std::system("python3 -c '' > /dev/null 2>&1") == 0; }

int python(const std::string& program) {
  const TempFolder folder;
  return std::system(("python3 " + folder.write("program.py", program)).c_str());
}

std::string load_error(const std::string& pickle) {
  const std::vector<uint8_t> bytes(pickle.begin(), pickle.end());
  return error_of([&] { parse_verification_bin(bytes, "set.bin"); });
}

std::string u32(size_t n) {
  std::string s;
  for (int i = 0; i < 4; ++i) s += static_cast<char>(n >> 8 * i & 255);
  return s;
}

std::vector<uint8_t> bytes_of(const std::string& s) { return {s.begin(), s.end()}; }

}  // namespace

TEST_CASE("numpy's pickles of every protocol") {
  const int protocol = GENERATE(0, 1, 2, 3, 4, 5);
  const std::string path = fmt::format("{}/tests/unit/data/pickles/numpy_protocol{}.bin", PLSC_SOURCE_DIR, protocol);
  const VerificationBin bin = load_verification_bin(path);
  REQUIRE(bin.images.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    REQUIRE(bin.images[i].size() == 12);
    for (size_t k = 0; k < 12; ++k) CHECK(bin.images[i][k] == i + k);
  }
  CHECK(bin.same == std::vector<uint8_t>{1, 0, 1});
}

TEST_CASE("Python's pickles of bytes and bytearrays in every protocol") {
  if (!have_python()) {
    WARN("skipped: there is no python3");
    return;
  }
  const TempFolder folder;
  REQUIRE(python("import pickle\n"
                 "images = [bytes([i]) * 5 + bytes(range(256)) + b\"'\\\\\\n\" for i in range(4)]\n"
                 "long = b'x' * 70000\n"
                 "for p in range(6):\n"
                 "    for name, kind in (('b', bytes), ('a', bytearray)):\n"
                 "        data = ([kind(i) for i in images] + [kind(long), kind(long)], [True, False, True])\n"
                 "        pickle.dump(data, open('" +
                 folder.path() + "/' + name + str(p), 'wb'), protocol=p)\n") == 0);
  for (int p = 0; p < 6; ++p) {
    for (const char* name : {"b", "a"}) {
      const VerificationBin bin = load_verification_bin(folder / (name + std::to_string(p)));
      REQUIRE(bin.images.size() == 6);
      CHECK(bin.same == std::vector<uint8_t>{1, 0, 1});
      CHECK(bin.images[4] == std::vector<uint8_t>(70000, 'x'));
      for (size_t i = 0; i < 4; ++i) {
        std::vector<uint8_t> expected(5, static_cast<uint8_t>(i));
        for (int c = 0; c < 256; ++c) expected.push_back(static_cast<uint8_t>(c));
        for (const char c : {'\'', '\\', '\n'}) expected.push_back(static_cast<uint8_t>(c));
        CHECK(bin.images[i] == expected);
      }
    }
  }
}

TEST_CASE("Python 2's strings, by hand") {
  const TempFolder folder;
  // Protocol 0: ([str, str], [True])
  const std::string zero = std::string("((lp0\nS'a\\x00\\n\\'\\\\\\377'\np1\naS\"it's\"\nag1\nag1\na(lI01\naI00\nat.");
  const VerificationBin a = load_verification_bin(folder.write("zero.bin", zero));
  CHECK(a.images == std::vector<std::vector<uint8_t>>{bytes_of(std::string("a\0\n'\\\xff", 6)), bytes_of("it's"),
                                                      bytes_of(std::string("a\0\n'\\\xff", 6)),
                                                      bytes_of(std::string("a\0\n'\\\xff", 6))});
  CHECK(a.same == std::vector<uint8_t>{1, 0});
  // Protocol 2: SHORT_BINSTRING and BINSTRING, TUPLE2
  const std::string two =
      "\x80\x02](U\x03"
      "abcT" +
      u32(300) + std::string(300, 'z') +
      "e](\x88"
      "e\x86.";
  const VerificationBin b = load_verification_bin(folder.write("two.bin", two));
  CHECK(b.images == std::vector<std::vector<uint8_t>>{bytes_of("abc"), std::vector<uint8_t>(300, 'z')});
  CHECK(b.same == std::vector<uint8_t>{1});
}

TEST_CASE("what we write, we and Python load") {
  const TempFolder folder;
  VerificationBin bin;
  for (int i = 0; i < 40; ++i) bin.images.push_back(small_png(i));
  for (int i = 0; i < 20; ++i) bin.same.push_back(i % 3 == 0);
  const std::string path = folder / "ours.bin";
  save_verification_bin(path, bin);
  const VerificationBin back = load_verification_bin(path);
  CHECK(back.images == bin.images);
  CHECK(back.same == bin.same);
  if (!have_python()) {
    WARN("Python's side skipped: there is no python3");
    return;
  }
  // As arcface_torch reads it.
  CHECK(python("import pickle\n"
               "for options in ({}, {'encoding': 'bytes'}):\n"
               "    bins, issame = pickle.load(open('" +
               path +
               "', 'rb'), **options)\n"
               "    assert len(bins) == 40 and len(issame) == 20\n"
               "    assert all(type(b) is bytes and b[:4] == b'\\x89PNG' for b in bins)\n"
               "    assert issame == [i % 3 == 0 for i in range(20)]\n") == 0);
}

TEST_CASE("cut off at any byte: an error that names the file") {
  for (const char* name :
       {"numpy_protocol0.bin", "numpy_protocol2.bin", "numpy_protocol4.bin", "numpy_protocol5.bin"}) {
    const std::string whole = read_text(fmt::format("{}/tests/unit/data/pickles/{}", PLSC_SOURCE_DIR, name));
    for (size_t cut = 0; cut < whole.size(); ++cut) {
      CHECK(contains(load_error(whole.substr(0, cut)), "set.bin"));
    }
  }
}

TEST_CASE("any byte may be wrong: an error or a set, never a crash") {
  for (const char* name : {"numpy_protocol0.bin", "numpy_protocol2.bin", "numpy_protocol5.bin"}) {
    const std::string whole = read_text(fmt::format("{}/tests/unit/data/pickles/{}", PLSC_SOURCE_DIR, name));
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const int flip : {0x01, 0x20, 0xff}) {
        std::string bad = whole;
        bad[i] = static_cast<char>(bad[i] ^ flip);
        load_error(bad);
      }
    }
  }
}

TEST_CASE("nothing is executed: other names are refused by name") {
  const std::string system = load_error("cos\nsystem\n(S'touch /tmp/x'\ntR.");
  CHECK(contains(system, "os.system"));
  CHECK(contains(system, "refused"));
  CHECK(contains(system, "offset 0"));
  // STACK_GLOBAL
  CHECK(contains(load_error("\x80\x04\x8c\x08"
                            "builtins\x8c\x04"
                            "eval\x93."),
                 "builtins.eval"));
  CHECK(load_error("\x80\x02(ccollections\nOrderedDict\no.") != "");
  CHECK(load_error("Pid\n.") != "");     // persistent ids
  CHECK(load_error("\x82\x01.") != "");  // extension registry
}

TEST_CASE("hostile pickles: huge lengths, deep nesting, self-reference, amplification") {
  CHECK(contains(load_error(std::string("\x80\x03") + "B\xff\xff\xff\xff" + "abc"), "cut off"));
  CHECK(contains(load_error(std::string("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff")), "cut off"));
  CHECK(load_error(std::string(100000, '(') + ".") != "");
  CHECK(load_error(std::string(100000, ']') + ".") != "");
  std::string nested(50000, ']');
  nested += std::string(49999, 'a') + ".";
  CHECK(load_error(nested) != "");
  CHECK(load_error("]q\x01h\x01"
                   "ah\x01\x86.") != "");  // a list that holds itself
  CHECK(load_error("2.") != "");
  CHECK(load_error("0.") != "");
  CHECK(load_error("t.") != "");
  CHECK(load_error("R.") != "");
  CHECK(load_error("b.") != "");
  CHECK(load_error("h\x05.") != "");
  CHECK(load_error("(0.") != "");  // a pop through a mark
  CHECK(load_error("\x80\x06.") != "");
  CHECK(contains(load_error("\x97."), "out-of-band"));
  // A megabyte referred to 5000 times: 5 GB of images from 1 MB of file.
  std::string many = "\x80\x03](B" + u32(1 << 20) + std::string(1 << 20, 'x') + "q\x01";
  for (int i = 0; i < 5000; ++i) many += "h\x01";
  CHECK(contains(load_error(many + "e]\x86."), "unfold"));
}

TEST_CASE("pickles of something else say what is missing") {
  CHECK(contains(load_error("N."), "images, issame"));
  CHECK(contains(load_error("]]\x86."), "0 images"));
  CHECK(contains(load_error("](K\x01"
                            "K\x02"
                            "e](\x88"
                            "e\x86."),
                 "image 0"));
  CHECK(contains(load_error("](U\x01"
                            "aU\x01"
                            "be](U\x01"
                            "xe\x86."),
                 "value 0 of issame"));
  CHECK(contains(load_error("](U\x01"
                            "aU\x01"
                            "be](\x88\x88"
                            "e\x86."),
                 "2 images and 2 values"));
  CHECK(contains(load_error(""), "cut off"));
}

TEST_CASE("many arrays that share one list take no memory for it") {
  // Two thousand arrays of objects, each made of the same list of a million: 8 GB as copies, of a file of 1 MB.
  std::string p = "\x80\x02](";
  p += std::string(1'000'000, 'N');
  p.replace(3, 1, std::string("q\0(", 3));
  p += "e0cnumpy\ndtype\nU\x01O\x85Rq\x01"
       "0";
  p += "cnumpy.core.multiarray\n_reconstruct\nq\x02"
       "0cnumpy\nndarray\n\x85q\x03"
       "0";
  for (int i = 0; i < 2000; ++i) p += std::string("h\x02h\x03R(K\x01)h\x01\x89h\0tb0", 17);
  p += "N.";
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  CHECK(contains(load_error(p), "no pair"));
  ::getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 200 * 1024);  // KiB
}

TEST_CASE("calls and states with more values than any takes are refused") {
  const std::string many = "(cnumpy\nndarray\n" + std::string(100, 'N') + "t";
  CHECK(contains(load_error("\x80\x02"
                            "cnumpy.core.multiarray\n_reconstruct\n" +
                            many + "R."),
                 "of 10"));
  CHECK(contains(load_error("\x80\x02"
                            "cnumpy\ndtype\nU\x01O\x85R(" +
                            std::string(100, 'N') + "tb."),
                 "of 10"));
  CHECK(contains(load_error("\x80\x04N" + std::string(100, '\x94') + "."), "stored"));
}

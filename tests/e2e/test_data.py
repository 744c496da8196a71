"""plsc-data as users call it: synth, pack, pairs, inspect; what they write, what they refuse, and their exit status."""
import filecmp
import os
import pickle
import struct
import unittest

from support import DATA, E2eCase, run, shared_data


def frames(path):
    """[(offset, flag, labels, id, id2, image)] of a .rec without split records: a reader of our own, by the format."""
    found = []
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        magic, word = struct.unpack_from("<II", data, at)
        assert magic == 0xCED7230A and word >> 29 == 0, f"offset {at}"
        payload = data[at + 8:at + 8 + word]
        flag, label, key, id2 = struct.unpack_from("<IfQQ", payload)
        labels = struct.unpack_from(f"<{flag}f", payload, 24) if flag else (label,)
        found.append((at, flag, labels, key, id2, payload[24 + 4 * flag:]))
        at += 8 + (word + 3) // 4 * 4
    return found


class Data(E2eCase):
    def path(self, *parts):
        return os.path.join(self.data, *parts)

    def refused(self, args, *words):
        done = run([DATA] + args, fails=True)
        for word in words:
            self.assertIn(word, done.stdout)
        self.assertEqual(done.stdout.count("plsc-data: error:"), 1, done.stdout)
        return done

    def test_synth_is_repeatable(self):
        again = self.folder("again")
        run([DATA, "synth", "--output", again, "--classes", "40", "--images-per-class", "8", "--held-out", "10",
             "--size", "24", "--channels", "1", "--seed", "5"])
        for name in ("train", "verify"):
            self.assert_same_tree(os.path.join(again, name), self.path(name))
        self.assertTrue(filecmp.cmp(os.path.join(again, "pairs.txt"), self.path("pairs.txt"), shallow=False))
        self.assertEqual(len(os.listdir(self.path("train"))), 40)
        self.assertEqual(len(os.listdir(self.path("verify"))), 10)
        self.assertFalse(set(os.listdir(self.path("train"))) & set(os.listdir(self.path("verify"))))
        self.refused(["synth", "--output", again], again, "not empty")

    def assert_same_tree(self, a, b):
        comparison = filecmp.dircmp(a, b)
        self.assertEqual(comparison.left_only + comparison.right_only + comparison.diff_files, [])
        for name in comparison.common_dirs:
            self.assert_same_tree(os.path.join(a, name), os.path.join(b, name))

    def test_synth_as_records_with_a_sheet(self):
        out, sheet = self.folder("rec"), self.folder("sheet.png")
        run([DATA, "synth", "--output", out, "--classes", "5", "--images-per-class", "4", "--held-out", "0", "--rec",
             "--size", "112", "--channels", "3", "--jpeg", "--sheet", sheet])
        self.assertEqual(len(frames(os.path.join(out, "train.rec"))), 20)
        self.assertFalse(os.path.exists(os.path.join(out, "train")))
        self.assertFalse(os.path.exists(os.path.join(out, "verify")))
        with open(sheet, "rb") as f:
            self.assertEqual(f.read(4), b"\x89PNG")

    def test_packed_as_insightface_reads_it(self):
        rec = self.folder("plain/train.rec")
        run([DATA, "pack", "--input", self.path("train"), "--output", rec, "--no-shuffle"])
        records = frames(rec)
        self.assertEqual((records[0][1], records[0][2]), (2, (321.0, 361.0)))
        images, identities = records[1:321], records[321:]
        self.assertEqual([r[2][0] for r in images], [float(i // 8) for i in range(320)])
        self.assertEqual([r[3] for r in images], list(range(1, 321)))
        self.assertEqual([r[4] for r in images], [i // 8 + 1 for i in range(320)])
        self.assertEqual([r[2] for r in identities], [(1.0 + 8 * i, 9.0 + 8 * i) for i in range(40)])
        glyph = sorted(os.listdir(self.path("train")))[3]
        image = self.path("train", glyph, sorted(os.listdir(self.path("train", glyph)))[2])
        with open(image, "rb") as f:
            self.assertEqual(f.read(), images[26][5])
        with open(self.folder("plain/train.idx")) as f:
            self.assertEqual([tuple(map(int, line.split("\t"))) for line in f], [(k, r[0]) for k, r in enumerate(records)])
        with open(self.folder("plain/property")) as f:
            self.assertEqual(f.read(), "40,24,24\n")

    def test_packed_in_mixed_order(self):
        one, two, three = (self.folder(f"mixed{i}/train.rec") for i in range(3))
        run([DATA, "pack", "--input", self.path("train"), "--output", one])
        run([DATA, "pack", "--input", self.path("train"), "--output", two, "--seed", "1"])
        run([DATA, "pack", "--input", self.path("train"), "--output", three, "--seed", "2"])
        self.assertTrue(filecmp.cmp(one, two, shallow=False))
        a, c = frames(one), frames(three)
        self.assertEqual(len(a), 320)
        self.assertNotEqual([r[2] for r in a], [r[2] for r in c])
        self.assertEqual(sorted((r[2], r[5]) for r in a), sorted((r[2], r[5]) for r in c))
        labels = [r[2][0] for r in a]
        self.assertLess(sum(x == y for x, y in zip(labels, labels[1:])), 40)  # 8 expected by chance
        # A .rec is packed again like any other source, and encoded anew where asked for.
        run([DATA, "pack", "--input", one, "--output", self.folder("again.rec"), "--quality", "80"])
        self.assertTrue(all(r[5][:2] == b"\xff\xd8" for r in frames(self.folder("again.rec"))))

    def test_pairs_and_bin(self):
        pairs, packed = self.folder("p.txt"), self.folder("set.bin")
        run([DATA, "pairs", "--input", self.path("verify"), "--output", pairs, "--count", "200", "--seed", "3"])
        with open(pairs) as f:
            lines = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
        self.assertEqual(len(lines), 200)
        for a, b, same in lines:
            self.assertEqual(os.path.dirname(a) == os.path.dirname(b), same == "1")
            self.assertTrue(os.path.exists(self.path("verify", a)))
        self.assertEqual(sum(same == "1" for _, _, same in lines), 100)
        run([DATA, "pack", "--bin", "--input", self.path("verify"), "--pairs", pairs, "--output", packed])
        with open(packed, "rb") as f:
            bins, issame = pickle.load(f, encoding="bytes")
        self.assertEqual(issame, [same == "1" for _, _, same in lines])
        with open(self.path("verify", lines[7][1]), "rb") as f:
            self.assertEqual(bins[15], f.read())
        done = run([DATA, "inspect", "--input", packed, "--verify"])
        self.assertIn("200 pairs, 100 of the same class", done.stdout)
        self.refused(["pairs", "--input", self.path("verify"), "--output", pairs, "--count", "1000000"], "only")

    def test_inspect_finds_damage(self):
        rec = self.folder("damaged/train.rec")
        run([DATA, "pack", "--input", self.path("train"), "--output", rec])
        done = run([DATA, "inspect", "--input", rec, "--verify", "--sheet", self.folder("first.png")])
        self.assertIn("320 images of 40 classes", done.stdout)
        self.assertIn("PNG 24 x 24", done.stdout)
        self.assertTrue(os.path.exists(self.folder("first.png")))
        records = frames(rec)
        at = records[100][0]
        with open(rec, "r+b") as f:
            f.seek(at + 60)
            f.write(bytes(40))  # within the image
            f.seek(records[200][0])
            f.write(bytes(8))  # a frame
        self.refused(["inspect", "--input", rec, "--verify"], f"offset {at}, key 100",
                     f"offset {records[200][0]}", "2 damaged places")
        with open(rec, "r+b") as f:
            f.truncate(records[300][0] + 11)
        self.refused(["inspect", "--input", rec], "train.rec", "cut")

    def test_inspects_folders_and_lists(self):
        done = run([DATA, "inspect", "--input", self.path("train")])
        self.assertIn("images a class: 8 to 8", done.stdout)
        listing = self.folder("list.txt")
        with open(listing, "w") as f:
            f.write(f"{self.path('train')}/nothing.png 3\n")
        self.refused(["inspect", "--input", listing], "nothing.png")

    def test_wrong_use(self):
        self.assertEqual(run([DATA], fails=True).returncode, 2)
        self.assertEqual(run([DATA, "synth"], fails=True).returncode, 2)
        self.assertEqual(run([DATA, "pack", "--input", "/nowhere", "--output", "/tmp/x.rec"], fails=True).returncode, 1)
        self.refused(["pack", "--input", "/nowhere", "--output", self.folder("x.rec")], "/nowhere")
        self.refused(["pack", "--input", self.path("train"), "--output", self.folder("x.dat")], ".rec")
        for command in ("synth", "pack", "pairs", "inspect"):
            self.assertIn("Example", run([DATA, command, "--help"]).stdout)

    def test_nothing_half_written_stays(self):
        broken = self.folder("broken")
        os.makedirs(os.path.join(broken, "a"))
        with open(os.path.join(broken, "a", "x.png"), "w") as f:
            f.write("no image")
        self.refused(["pack", "--input", broken, "--output", self.folder("half/train.rec")], "x.png")
        self.assertEqual(os.listdir(self.folder("half")), [])

    @unittest.skipIf(shared_data("lfw112.tar") is None, "../shared/data/lfw112.tar is not there")
    def test_lfw(self):
        folder = self.folder("lfw")
        os.makedirs(folder)
        run(["tar", "xf", shared_data("lfw112.tar"), "-C", folder])
        packed = self.folder("lfw.bin")
        run([DATA, "pack", "--bin", "--input", os.path.join(folder, "images"), "--pairs",
             os.path.join(folder, "pairs.txt"), "--output", packed])
        done = run([DATA, "inspect", "--input", packed, "--verify"])
        self.assertIn("6000 pairs, 3000 of the same class", done.stdout)
        self.assertIn("JPEG 112 x 112", done.stdout)
        with open(packed, "rb") as f:
            self.assertEqual(len(pickle.load(f, encoding="bytes")[0]), 12000)


if __name__ == "__main__":
    unittest.main(verbosity=2)

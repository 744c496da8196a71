"""Checks a safetensors file against the format's description with the standard library alone, and with the
safetensors package where it is installed. Exit status 0: the file is as described."""
import json
import struct
import sys

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}


def check(path):
    with open(path, "rb") as f:
        data = f.read()
    (length,) = struct.unpack("<Q", data[:8])
    assert data[8:9] == b"{", "the header begins with {"
    header = json.loads(data[8 : 8 + length].decode("utf-8"))
    assert header.pop("__metadata__")["format"] == "pt"
    body = len(data) - 8 - length
    assert (8 + length) % 8 == 0, "aligned data"
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        elements = 1
        for d in entry["shape"]:
            elements *= d
        assert begin == position, f"{name}: a gap or an overlap"
        assert end - begin == elements * SIZES[entry["dtype"]], f"{name}: size"
        assert begin % SIZES[entry["dtype"]] == 0, f"{name}: alignment"
        position = end
    assert position == body, "the file ends with the last tensor"
    return header


def check_with_package(path, header):
    try:
        from safetensors import safe_open
    except ImportError:
        return
    with safe_open(path, framework="np") as f:
        assert set(f.keys()) == set(header)
        for name in f.keys():
            if header[name]["dtype"] != "BF16":  # numpy has none
                assert list(f.get_tensor(name).shape) == header[name]["shape"]


check_with_package(sys.argv[1], check(sys.argv[1]))

"""PNGs of one bit a pixel, as Omniglot has them: read, turned by quarters, written. Python's standard library alone."""
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(data, name):
    if data[:8] != SIGNATURE:
        raise ValueError(f"{name}: is no PNG")
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + 8 + length]
        at += 12 + length


def unfiltered(raw, stride, rows, name):
    """The rows of bytes behind PNG's filters 0 to 4; a pixel is less than a byte, so its left neighbour is one byte."""
    if len(raw) != rows * (stride + 1):
        raise ValueError(f"{name}: {len(raw)} bytes of pixels, expected {rows * (stride + 1)}")
    above, out = bytes(stride), []
    for y in range(rows):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride if kind else 0):
            left, up, corner = line[x - 1] if x else 0, above[x], above[x - 1] if x else 0
            if kind == 4:
                p = left + up - corner
                guess = min((left, up, corner), key=lambda c: abs(p - c))
            else:
                guess = (left, up, (left + up) // 2)[kind - 1]
            line[x] = (line[x] + guess) & 255
        above = bytes(line)
        out.append(above)
    return out


def read(path):
    """Rows of the image, each a text of 0 and 1."""
    with open(path, "rb") as f:
        parts = list(chunks(f.read(), path))
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    if (depth, colour, interlaced) != (1, 0, 0):
        raise ValueError(f"{path}: depth {depth}, colour type {colour}, expected one bit of grey, not interlaced")
    raw = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    stride = (width + 7) // 8
    return [format(int.from_bytes(line, "big"), f"0{8 * stride}b")[:width]
            for line in unfiltered(raw, stride, height, path)]


def turned(rows):
    """A quarter clockwise."""
    return ["".join(column) for column in zip(*rows[::-1])]


def write(path, rows):
    width, stride = len(rows[0]), (len(rows[0]) + 7) // 8
    raw = b"".join(b"\0" + int(line.ljust(8 * stride, "0"), 2).to_bytes(stride, "big") for line in rows)
    header = struct.pack(">IIBBBBB", width, len(rows), 1, 0, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(SIGNATURE)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
            f.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))

"""Recomputes the values that firebrick-split pins: the shuffle of K-fold and the row hash.

Written from the formulas (Philox4x32-10, Lemire's bounded integers, Fisher-Yates), standard library only.
Run: python3 split_pinned.py
"""

import struct

M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def philox(counter, key):
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = right >> 32 ^ b ^ k, right & M32, left >> 32 ^ d ^ l, left & M32
        k, l = (k + 0x9E3779B9) & M32, (l + 0xBB67AE85) & M32
    return [a, b, c, d]


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & M64
    return value


def words(seed, purpose):
    stream, block = fnv1a(purpose), 0
    while True:
        counter = [block & M32, block >> 32, stream & M32, stream >> 32]
        yield from philox(counter, [seed & M32, seed >> 32])
        block += 1


def below(draw, n):
    while True:
        product = next(draw) * n
        if product & M32 >= (1 << 32) % n:
            return product >> 32


def shuffle(items, draw):
    for i in range(len(items) - 1, 0, -1):
        j = below(draw, i + 1)
        items[i], items[j] = items[j], items[i]
    return items


K = [0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B]


def fold(a, b):
    product = a * b
    return (product ^ product >> 64) & M64


def row_hash(pairs):
    state = K[2]
    for a, b in pairs:
        state = (fold(a ^ K[0], b ^ state) + K[1]) & M64
    mixed = fold(state ^ K[1], len(pairs) ^ K[0])
    return fold(mixed ^ K[2], mixed ^ K[0])


def pairs_of(data):
    whole = len(data) // 16 * 16
    padded = data[:whole] + data[whole:].ljust(16, b"\0")
    return [struct.unpack("<QQ", padded[i : i + 16]) for i in range(0, len(padded), 16)]


def hash_bytes(data):
    return row_hash(pairs_of(data) + [(len(data), 1)])


def hash_f32(values, label):
    data = struct.pack(f"<{len(values)}f", *values)
    return row_hash(pairs_of(data) + [(len(values), 1 << 32 if label is None else label)])


if __name__ == "__main__":
    print("k_fold 12 rows, k 3, seed 42:", shuffle([0] * 4 + [1] * 4 + [2] * 4, words(42, "split/k_fold")))
    print("hash_bytes:", hex(hash_bytes(b"firebrick")))
    print("hash_f32:", hex(hash_f32([1.0, 2.0, 3.0, 4.0, 5.0], 6)))

"""Recomputes the values that firebrick-split pins: shuffle of K-fold, row hash, hash split, Feistel folds.

Written from the formulas (Philox4x32-10, Lemire's bounded integers, Fisher-Yates, a Feistel network of 12 rounds with the
finalizer of splitmix64, walked until it falls below n), standard library only.
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


def hash_split(identity, seed, test, validation):
    """0 train, 1 validation, 2 test; shares as (numerator, denominator)."""
    stream = hash_bytes(identity)
    block = philox([0, 0, stream & M32, stream >> 32], [seed & M32, seed >> 32])
    value = block[0] | block[1] << 32
    first, second = ((num << 64) // den for num, den in (test, validation))
    return 2 if value < first else 1 if value < first + second else 0


def feistel_fold(row, n, k, seed):
    half = ((n - 1).bit_length() + 1) // 2
    draw = words(seed, "split/feistel")
    keys = [next(draw) | next(draw) << 32 for _ in range(12)]
    mask, place = (1 << half) - 1, row
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            x = right + key & M64
            x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & M64
            x = (x ^ x >> 27) * 0x94D049BB133111EB & M64
            left, right = right, left ^ (x ^ x >> 31) & mask
        place = left << half | right
        if place < n:
            break
    # The first n mod k blocks of the permuted places are one longer.
    size, longer = divmod(n, k)
    cut = longer * (size + 1)
    return place // (size + 1) if place < cut else longer + (place - cut) // size


if __name__ == "__main__":
    print("k_fold 12 rows, k 3, seed 42:", shuffle([0] * 4 + [1] * 4 + [2] * 4, words(42, "split/k_fold")))
    print("hash_bytes:", hex(hash_bytes(b"firebrick")))
    print("hash_f32:", hex(hash_f32([1.0, 2.0, 3.0, 4.0, 5.0], 6)))
    parts = [hash_split(struct.pack("<Q", i), 7, (1, 5), (1, 10)) for i in range(24)]
    print("hash split 0.2 and 0.1 of 24 identities, seed 7:", parts)
    print("feistel 100003 rows, k 7, seed 11:", [feistel_fold(row, 100_003, 7, 11) for row in range(24)])
    spread = [feistel_fold(row * 41_666_666, 10**9, 5, 2**40 + 3) for row in range(24)]
    print("feistel 10^9 rows, every 41666666th, k 5, seed 2^40 + 3:", spread)

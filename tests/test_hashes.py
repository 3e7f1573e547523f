"""Random bits: seeds, ties and simulated clicks are made of them."""
from __future__ import annotations

import numpy as np

from tfrecal.hashes import hashed, noise

A = np.array([0, 1, 7, 2**31 - 1], np.int32)
B = np.array([0, 1, 3, 2**31 - 1], np.int32)


def mixed(z):
    """`mix64` of Java's SplittableRandom, in whole numbers."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_hashed_gives_the_bits_that_it_always_gave():
    assert hashed(A, B, 0, 1).tolist() == [
        0x07f3c071cb086364, 0xc47afb45880249dd, 0x884d721768658b69,
        0xe24002e5652559e8]
    assert hashed(A, B, 7, 3).tolist() == [
        0xc4ce962956a61660, 0x01d945a176f64919, 0x4aa131d9b76fa44b,
        0xd10a91e5fa43fbff]


def test_noise_gives_the_bits_that_it_always_gave():
    assert noise(0, A, B).tolist() == [
        0x238275bc38fcbe91, 0xd5159b73432a2795, 0xd0ac2efad2a1e5d0,
        0xee2853aa4770cd4b]
    assert noise(-5, A[:, None], B[:2])[1].tolist() == [
        0x56448d94fdffcbc3, 0x07a9be685013dfe6]
    assert noise(3, 5, np.int64(6)) == 0x2fc673c702af5a73


def test_both_mix_as_published():
    gamma, found = 0x9E3779B97F4A7C15, 11
    for value in (5, 6, 0):
        found = mixed((found + gamma + value) % 2**64)
    assert noise(11, 5, 6) == found
    start = int(np.random.SeedSequence([2, 4]).generate_state(
        1, np.uint64)[0])
    bits = ((7 << 32 | 3) * gamma + start) % 2**64
    assert hashed(A[2:3], B[2:3], 2, 4) == mixed(bits)


def test_arguments_stay_as_they_are():
    before = A.copy(), B.copy()
    hashed(A.astype(np.uint64), B, 1, 2)
    noise(1, A, B)
    np.testing.assert_array_equal((A, B), before)

"""The Sobol sequence: points that are spread evenly over the cube, however many one takes.

Sobol (1967), with the direction numbers of Joe and Kuo, *Constructing Sobol sequences with better two-dimensional
projections* (SIAM J. Sci. Comput. 30, 2008), scrambled by a random linear map of the digits and a shift (Matousek,
*On the L2-discrepancy for anchored boxes*, J. Complexity 14, 1998, section 4.2).

``scipy.stats.qmc.Sobol`` makes the same points; importing it takes longer than everything else in a search's first
second. It serves spaces with more parameters than the table here has.
"""

from __future__ import annotations

import numpy as np

BITS = 30
MAX_DIMENSION = 21_201  # of the numbers that scipy holds
#: for each dimension behind the first: the coefficients of a primitive polynomial modulo 2, as the digits of a number,
#: and the first direction numbers m_1, m_2, ...
JOE_KUO = """
3:1 7:1,3 11:1,3,1 13:1,1,1 19:1,1,3,3 25:1,3,5,13 37:1,1,5,5,17 41:1,1,5,5,5 47:1,1,7,11,19 55:1,1,5,1,1
59:1,1,1,3,11 61:1,3,5,5,31 67:1,3,3,9,7,49 91:1,1,1,15,21,21 97:1,3,1,13,27,49 103:1,1,1,15,7,5
109:1,3,1,15,13,25 115:1,1,5,5,19,61 131:1,3,7,11,23,15,103 137:1,3,7,13,13,15,69 143:1,1,3,13,7,35,63
145:1,3,5,9,1,25,53 157:1,3,1,13,9,35,107 167:1,3,1,5,27,61,31 171:1,1,5,11,19,41,61 185:1,3,5,3,3,13,69
191:1,1,7,13,1,19,1 193:1,3,7,5,13,19,59 203:1,1,3,9,25,29,41 211:1,3,5,13,23,1,55 213:1,3,7,3,13,59,17
229:1,3,1,3,5,53,69 239:1,1,5,5,23,33,13 241:1,1,7,7,1,61,123 247:1,1,7,9,13,61,49 253:1,3,3,5,3,55,33
285:1,3,1,15,31,13,49,245 299:1,3,5,15,31,59,63,97 301:1,3,1,11,11,11,77,249 333:1,3,1,11,27,43,71,9
351:1,1,7,15,21,11,81,45 355:1,3,7,3,25,31,65,79 357:1,3,1,1,19,11,3,205 361:1,1,5,9,19,21,29,157
369:1,3,7,11,1,33,89,185 391:1,3,3,3,15,9,79,71 397:1,3,7,11,15,39,119,27 425:1,1,3,1,11,31,97,225
451:1,1,1,3,23,43,57,177 463:1,3,7,7,17,17,37,71 487:1,3,1,5,27,63,123,213 501:1,1,3,5,11,43,53,133
529:1,3,5,5,29,17,47,173,479 539:1,3,3,11,3,1,109,9,69 545:1,1,1,5,17,39,23,5,343 557:1,3,1,5,25,15,31,103,499
563:1,1,1,11,11,17,63,105,183 601:1,1,5,11,9,29,97,231,363 607:1,1,5,15,19,45,41,7,383
617:1,3,7,7,31,19,83,137,221 623:1,1,1,3,23,15,111,223,83 631:1,1,5,13,31,15,55,25,161
637:1,1,3,13,25,47,39,87,257
"""
DIMENSIONS = len(JOE_KUO.split()) + 1


def points(dimension: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Return the first 2**m points of a scrambled sequence in [0, 1), shape (2**m, dimension)."""
    if dimension > DIMENSIONS:
        from scipy.stats import qmc

        return np.asarray(qmc.Sobol(dimension, scramble=True, seed=rng).random_base2(m))
    rng = rng.spawn(1)[0]
    shift = rng.integers(0, 2, (dimension, BITS), np.uint32) @ (np.uint32(1) << np.arange(BITS, dtype=np.uint32))
    V = scrambled(directions(dimension), rng.integers(0, 2, (dimension, BITS, BITS), np.uint32))
    # in the order of Gray's code, point i differs from the one before by the direction of the last 1 of i
    i = np.arange(1, 1 << m)
    steps = V[:, np.log2(i & -i).astype(int)].T
    walk = np.bitwise_xor.accumulate(np.vstack([shift.astype(np.uint32)[None], steps]), axis=0)
    return walk * 2.0**-BITS


def directions(dimension: int) -> np.ndarray:
    """Return the direction numbers v_j = m_j / 2^j as integers with ``BITS`` digits, shape (dimension, BITS).

    m_j = 2 a_1 m_{j-1} ⊕ … ⊕ 2^{s-1} a_{s-1} m_{j-s+1} ⊕ 2^s m_{j-s} ⊕ m_{j-s} (Joe and Kuo, eq. 2).
    """
    M = np.ones((dimension, BITS), dtype=np.uint32)
    for d, entry in enumerate(JOE_KUO.split()[: dimension - 1], 1):
        polynomial, _, first = entry.partition(":")
        known = [int(number) for number in first.split(",")]
        s = len(known)
        a = [int(digit) for digit in f"{int(polynomial):b}"]  # a_0 = 1, a_1, ..., a_s = 1
        for j in range(s, BITS):
            new = known[j - s]
            for k in range(1, s + 1):
                new ^= a[k] * known[j - k] << k
            known.append(new)
        M[d] = known
    return M << np.arange(BITS - 1, -1, -1, dtype=np.uint32)


def scrambled(V: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Map the digits of direction numbers by random lower triangular matrices, shape (dimension, BITS, BITS)."""
    L = np.tril(noise, -1) + np.eye(BITS, dtype=np.uint32)
    place = np.arange(BITS - 1, -1, -1, dtype=np.uint32)  # of the first digit, the second, ...
    digits = V[:, None, :] >> place[:, None] & np.uint32(1)
    mapped = (L.astype(np.float32) @ digits.astype(np.float32)).astype(np.uint32) & np.uint32(1)
    return (mapped << place[:, None]).sum(1, dtype=np.uint32)

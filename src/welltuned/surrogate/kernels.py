"""Matérn kernels on stacks of feature matrices, and a Cholesky factor that does not give up.

Every function takes a stack: M processes are evaluated at once, one slice each, because for the few dozen trials of a
typical study the calls cost more than the arithmetic.
"""

from __future__ import annotations

import numpy as np

from welltuned.later import lapack

JITTER = 1e-10


def exp(x: np.ndarray) -> np.ndarray:
    """Return the exponential, the same to the last bit wherever in memory a small array lies; see :func:`_room`."""
    return np.exp(x, out=_room(x))


def log(x: np.ndarray) -> np.ndarray:
    """Return the logarithm, the same to the last bit wherever in memory a small array lies; see :func:`_room`."""
    return np.log(x, out=_room(x))


def _room(x: np.ndarray) -> np.ndarray:
    """Return an array of the shape of ``x`` that is at least 64 bytes away from it.

    Where input and output are closer, NumPy takes another routine, which rounds otherwise, and runs would not repeat.
    """
    return np.empty(x.size + 16)[8 : 8 + x.size].reshape(x.shape)


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return |a - b|² for all rows of A, shape (…, p, D), and B, shape (…, q, D); shape (…, p, q)."""
    r2 = A @ np.swapaxes(B, -1, -2)
    r2 *= -2.0
    r2 += np.einsum("...ij,...ij->...i", A, A)[..., :, None]
    r2 += np.einsum("...ij,...ij->...i", B, B)[..., None, :]
    return np.maximum(r2, 0.0, out=r2)


def matern(r2: np.ndarray, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return k(r²) and dk/dr², which is finite at 0.

    Matérn 3/2: (1 + q) e^-q with q = √(3 r²), and -(3/2) e^-q. Where ``smooth``, Matérn 5/2: (1 + q + q²/3) e^-q with
    q = √(5 r²), and -(5/6)(1 + q) e^-q.
    """
    q = np.sqrt((5.0 if smooth else 3.0) * r2)
    e = np.exp(-q)
    k = (1.0 + q) * e
    if not smooth:
        e *= -1.5
        return k, e
    slope = k * (-5.0 / 6.0)
    e *= r2
    e *= 5.0 / 3.0
    k += e
    return k, slope


def correlation(r2: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Return k(r²) alone; ``r2`` is overwritten."""
    r2 *= 5.0 if smooth else 3.0
    q = np.sqrt(r2)
    if smooth:
        r2 *= 1.0 / 3.0
        r2 += q
        r2 += 1.0
        np.negative(q, out=q)
        r2 *= np.exp(q, out=q)
        return r2
    np.exp(np.negative(q, out=r2), out=r2)
    q += 1.0
    r2 *= q
    return r2


def cholesky(K: np.ndarray) -> np.ndarray | None:
    """Return the lower Cholesky factor, with more jitter on the diagonal if it takes it; None when nothing helps."""
    if not np.isfinite(K).all():
        return None
    for jitter in (0.0, 1e-8, 1e-6, 1e-4, 1e-2):
        L, info = lapack.dpotrf(K if jitter == 0 else K + jitter * np.eye(len(K)), lower=1, clean=1)
        if info == 0:
            return np.asarray(L)
    return None

"""Where chance comes from: one generator per trial, derived from (study seed, trial number) and from nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def trial_rng(seed: int, number: int) -> np.random.Generator:
    """Return the generator of trial ``number`` of the study with this ``seed``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def origin(rng: np.random.Generator) -> tuple[int, int]:
    """Return the (study seed, trial number) that a generator was derived from; (its entropy, 0) for any other one."""
    sequence = rng.bit_generator.seed_seq
    entropy = sequence.entropy  # type: ignore[attr-defined]
    key = sequence.spawn_key  # type: ignore[attr-defined]
    return int(entropy if isinstance(entropy, int) else 0), int(key[0]) if key else 0


def study_rng(rng: np.random.Generator, purpose: str) -> np.random.Generator:
    """Return the generator that all trials of a study share for one ``purpose``, such as the scrambling of a
    sequence.
    """
    seed, _ = origin(rng)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 31, zlib.crc32(purpose.encode()))))

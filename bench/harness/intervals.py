"""The median of few measurements, how sure it is, and what follows for a bar."""

import math
import statistics

CONFIDENCE = 0.95
# Below this, no pair of order statistics encloses the median with 95 % confidence.
SAMPLES_MIN = 6

MET = "met"
MISSED = "missed"
INCONCLUSIVE = "inconclusive"


def median_interval(samples, confidence=CONFIDENCE):
    """(median, low, high): the narrowest symmetric pair of order statistics that encloses the median with the given confidence.

    It assumes nothing of the distribution. Where there are too few samples, the interval is unbounded.
    """
    ordered = sorted(samples)
    count = len(ordered)
    median = statistics.median(ordered)
    # The median lies below the k-th smallest when fewer than k of n fair coins show heads.
    tail = 0.0
    rank = 0
    while True:
        tail += math.comb(count, rank) / 2**count
        if 2 * tail > 1 - confidence:
            break
        rank += 1
    if rank == 0:
        return median, -math.inf, math.inf
    return median, ordered[rank - 1], ordered[count - rank]


def verdict(low, high, bound):
    """Whether an interval is below a bound, above it, or around it."""
    if high <= bound:
        return MET
    if low > bound:
        return MISSED
    return INCONCLUSIVE


def same_round_ratios(of, to):
    """Ratios of two series of one value a round, where None stands for a round that failed."""
    return [top / bottom for top, bottom in zip(of, to) if top is not None and bottom]


def same_round_differences(of, to):
    """What the first of two series of one value a round has more than the second, where None stands for a round that failed."""
    return [top - bottom for top, bottom in zip(of, to) if top is not None and bottom is not None]

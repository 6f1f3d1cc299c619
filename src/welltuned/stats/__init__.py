"""What a study's results say, beyond the best of them."""

from welltuned.stats.importance import importance

__all__ = ["importance"]

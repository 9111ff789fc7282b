"""Seeds of the sequences of one request, as the engine derives them (docs/contracts.md, section 3)."""

_MASK = 2**64 - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def _mix(bits: int) -> int:
    """The finaliser of SplitMix64."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def sequence_seed(seed: int, index: int) -> int:
    """The seed with which one request for one sequence draws what sequence `index` draws; as a signed parameter."""
    unsigned = seed & _MASK if index == 0 else _mix((seed + index * _GOLDEN_GAMMA) & _MASK)
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned

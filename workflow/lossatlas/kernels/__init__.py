"""Small kernels, compiled for the processor at hand by LLVM when they are first called.

`compiled.kernel` is the one way in. What writes them is imported only then.
"""

LANES = 16  # floats in a vector of AVX-512
BLOCK = 8  # channels of outputs that a convolution holds in registers
TAPS = 9  # of a convolution of 3 x 3
LISTS = 2560  # floats that `pooled_images` needs room for
WIDEST = 124  # places of a row that a pool's choices, in a byte, can tell apart


def company(height: int, width: int) -> int:
    """Return how many images `taps_slope` is best given at a time."""
    return max(1, 2**9 // (height * width))


def windows_company(height: int, width: int) -> int:
    """Return how many images `pooled_taps` is best given at a time."""
    return max(1, 2**7 // (height * width))

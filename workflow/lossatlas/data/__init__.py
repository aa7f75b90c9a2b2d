"""Data sets: fetch, read, convert, put load on, and hold as tensors on a device."""

"""Side-by-side programs, one a question; `python -m benchmarks.NAME` from the repository's root."""

import toolkit  # noqa: F401  # before torch is loaded: lets waiting threads sleep, on both sides alike

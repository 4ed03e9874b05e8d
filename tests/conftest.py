"""What no test may leave behind: another number of threads, a log handler on a stream that is gone."""

import sys
from collections.abc import Iterator

import pytest

from toolkit.console import log


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Puts the process's threads and log handlers back."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    handlers = list(log.handlers)
    yield
    log.handlers[:] = handlers
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)

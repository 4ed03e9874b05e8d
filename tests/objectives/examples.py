"""Small encoders and batches of each modality, for the contract suite."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import nn

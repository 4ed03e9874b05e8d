"""Certificates: a loss against an independent formula, and where losses go wrong in practice.

    from toolkit.objectives.certify import Claim, certify
    print(certify([Claim(my_loss, my_formula, {"temperature": 0.2})])[0])

It starts two processes, so that a script calls it under `if __name__ == "__main__":`, or with `processes=False`.
A method names its losses' claims in `claims`; `fewlabel objectives --certificate` checks those of all methods.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from toolkit.console import log
from toolkit.objectives.references import Arrays, two_views

NUM_SAMPLES, NUM_FEATURES, NUM_PROCESSES = 6, 5, 2
LOW_TEMPERATURE = 1e-3
STEP = 1e-4
"""Of central differences of fourth order: what they leave out is about STEP**4, what rounding adds 1e-16 / STEP."""
LIMITS = {
    "value": 1e-12,
    "gradient": 1e-8,
    "collapse": 1e-6,
    "temperature 1e-3": 1e-4,
    "half precision": 1e-6,
    "partial batch": 1e-12,
    "2 processes": 1e-12,
}
"""Largest error of each check, relative to the reference's value, or to its largest gradient; absolute below 1."""


@dataclass(frozen=True)
class Claim:
    """What a loss promises.

    Attributes:
        loss: `loss(*arrays, **settings, gather=False)`, a scalar that is a mean over samples. For the check with two
            processes it must be importable: a function of a module, no lambda. Whole numbers have no gradient.
        reference: The same of NumPy arrays in float64, by an independent formula.
        settings: Keyword arguments of both. One called `temperature` is checked at 1e-3 too.
        inputs: Arrays from a generator, a number of samples and one of features; rows are samples.
        shared: Positions of inputs that are no samples: each process has the whole of them, as of a queue.
        collapsed: The value where each entry of the inputs is 1 / features, of their numbers, and each whole number 0;
            None is no check.
        summed: The loss is a sum over samples, and takes no `gather`: processes add up theirs.
    """

    loss: Callable[..., Tensor]
    reference: Callable[..., float]
    settings: Mapping[str, float] = field(default_factory=dict)
    inputs: Callable[[np.random.Generator, int, int], Arrays] = two_views
    shared: tuple[int, ...] = ()
    collapsed: Callable[[int, int], float] | None = None
    summed: bool = False

    @property
    def name(self) -> str:
        """Of the loss: its module's and its own."""
        return f"{self.loss.__module__.rpartition('.')[2]}.{self.loss.__name__}"

    def arrays(self, num_samples: int = NUM_SAMPLES) -> Arrays:
        """The inputs, the same each time."""
        return self.inputs(np.random.default_rng([num_samples]), num_samples, NUM_FEATURES)


@dataclass(frozen=True)
class Certificate:
    """What was found of one loss.

    Attributes:
        name: Of the loss.
        errors: By check; infinite where something was not finite, None where it does not apply.
    """

    name: str
    errors: Mapping[str, float | None]

    @property
    def failed(self) -> list[str]:
        """Checks whose error is above its limit."""
        return [check for check, error in self.errors.items() if error is not None and not error <= LIMITS[check]]

    def __str__(self) -> str:
        parts = (f"{check} {_cell(error)}" for check, error in self.errors.items())
        return f"{self.name}: {', '.join(parts)}; {'FAILED: ' + ', '.join(self.failed) if self.failed else 'holds'}"


def certify(claims: Sequence[Claim], *, processes: bool = True) -> list[Certificate]:
    """Checks losses.

    Args:
        claims: What they promise.
        processes: Whether to start two processes too, which takes some seconds.
    """
    together = _shared_out(claims) if processes else [None] * len(claims)
    checks: dict[str, Callable[[Claim], float | None]] = {
        "value": lambda claim: _value_error(claim, NUM_SAMPLES),
        "gradient": _gradient_error,
        "collapse": _collapse_error,
        "temperature 1e-3": _low_temperature_error,
        "half precision": _half_precision_error,
        "partial batch": _partial_batch_error,
    }
    certificates = []
    for claim, error in zip(claims, together, strict=True):
        found = {check: _found(claim, check, function) for check, function in checks.items()}
        certificates.append(Certificate(claim.name, {**found, "2 processes": error}))
    return certificates


def table(certificates: Sequence[Certificate]) -> str:
    """Markdown: a row a loss, a column a check, each cell the error found."""
    lines = [f"| loss | {' | '.join(LIMITS)} |", "|---|" + "---:|" * len(LIMITS)]
    for one in certificates:
        cells = (_cell(one.errors[check]) + (" FAILED" if check in one.failed else "") for check in LIMITS)
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    limits = " | ".join(f"{limit:.0e}" for limit in LIMITS.values())
    return "\n".join([*lines, f"| *at most* | {limits} |"])


def evaluate(
    claim: Claim, arrays: Arrays, settings: Mapping[str, float] | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, list[Tensor]]:
    """A loss and its gradient of each array that is not of whole numbers, as float64."""
    tensors = [torch.tensor(array, dtype=dtype if _varies(array) else None) for array in arrays]
    varied = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
    loss = claim.loss(*tensors, **(claim.settings if settings is None else settings))
    return loss.detach(), [g.double() for g in torch.autograd.grad(loss, varied)]


def numerical_gradient(function: Callable[..., float], arrays: Arrays, settings: Mapping[str, float]) -> Arrays:
    """Central differences of fourth order, entry by entry, of each array that is not of whole numbers."""
    gradients = {which: np.zeros_like(array) for which, array in enumerate(arrays) if _varies(array)}
    for which, gradient in gradients.items():
        for index in np.ndindex(gradient.shape):
            values = []
            for steps in (1, -1, 2, -2):
                moved = [a.copy() for a in arrays]
                moved[which][index] += steps * STEP
                values.append(function(*moved, **settings))
            gradient[index] = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * STEP)
    return tuple(gradients.values())


def _found(claim: Claim, check: str, function: Callable[[Claim], float | None]) -> float | None:
    """A loss that raises fails its check, and leaves the others to be made."""
    try:
        return function(claim)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        log.warning("%s, %s: raised %s: %s", claim.name, check, type(error).__name__, str(error).partition("\n")[0])
        return float("inf")


def _value_error(claim: Claim, num_samples: int) -> float:
    arrays = claim.arrays(num_samples)
    return _error([evaluate(claim, arrays)[0]], [claim.reference(*arrays, **claim.settings)])


def _gradient_error(claim: Claim) -> float:
    arrays = claim.arrays()
    return _error(evaluate(claim, arrays)[1], numerical_gradient(claim.reference, arrays, claim.settings))


def _collapse_error(claim: Claim) -> float | None:
    """The constant, in float64 and in float32, with a finite gradient."""
    if claim.collapsed is None:
        return None
    arrays = tuple(np.full_like(array, 1 / NUM_FEATURES) for array in claim.arrays())
    expected = claim.collapsed(NUM_SAMPLES, NUM_FEATURES)
    results = [evaluate(claim, arrays, dtype=dtype) for dtype in (torch.float64, torch.float32)]
    return max(_error([loss], [expected], *gradients) for loss, gradients in results)


def _low_temperature_error(claim: Claim) -> float | None:
    """Values in float32 too; finite gradients in bfloat16."""
    if "temperature" not in claim.settings:
        return None
    settings, arrays = {**claim.settings, "temperature": LOW_TEMPERATURE}, claim.arrays()
    expected = claim.reference(*arrays, **settings)
    results = [evaluate(claim, arrays, settings, dtype) for dtype in (torch.float64, torch.float32)]
    coarse = evaluate(claim, arrays, settings, torch.bfloat16)
    return max(_error([loss], [expected], *gradients, coarse[0], *coarse[1]) for loss, gradients in results)


def _half_precision_error(claim: Claim) -> float:
    """Half-precision inputs are computed with in float32, and autocast does not coarsen what is float32."""
    errors = []
    for dtype in (torch.float16, torch.bfloat16):
        arrays = claim.arrays()
        rounded = tuple(torch.tensor(a).to(dtype).float().numpy() if _varies(a) else a for a in arrays)
        loss, gradients = evaluate(claim, rounded, dtype=dtype)
        expected, _ = evaluate(claim, rounded, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside, _ = evaluate(claim, rounded, dtype=torch.float32)
        is_wide = loss.dtype == inside.dtype == torch.float32
        errors.append(_error([loss, inside], [expected, expected], *gradients) if is_wide else float("inf"))
    return max(errors)


def _partial_batch_error(claim: Claim) -> float:
    """Three and two samples against the formula; one alone is finite, with its gradient."""
    loss, gradients = evaluate(claim, claim.arrays(1))
    return max(_value_error(claim, 3), _value_error(claim, 2), _error([], [], loss, *gradients))


def _shared_out(claims: Sequence[Claim]) -> list[float | None]:
    """Value and gradients of two processes with `gather`, as averaged by DistributedDataParallel, against one's."""
    todo = [
        (claim.loss, claim.arrays(), {**claim.settings, **({} if claim.summed else {"gather": True})}, claim.shared)
        for claim in claims
    ]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (folder, todo), nprocs=NUM_PROCESSES)
        parts = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(NUM_PROCESSES)]
    errors: list[float | None] = []
    for claim, *found in zip(claims, *parts, strict=True):
        arrays = claim.arrays()
        loss, gradients = evaluate(claim, arrays)
        share = 1 if claim.summed else 1 / NUM_PROCESSES
        together = [torch.stack([part[0] for part in found]).sum() * share]
        varied = [position for position, array in enumerate(arrays) if _varies(array)]
        for number, position in enumerate(varied, 1):
            rows = [part[number] for part in found]
            whole = torch.stack(rows).sum(dim=0) if position in claim.shared else torch.cat(rows)
            together.append(whole * share)
        errors.append(_error(together, [loss, *gradients]))
    return errors


def _process(rank: int, folder: str, todo: Sequence[tuple[Any, ...]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=NUM_PROCESSES)
    try:
        found = []
        for loss, arrays, settings, shared in todo:
            rows = slice(rank * NUM_SAMPLES // NUM_PROCESSES, (rank + 1) * NUM_SAMPLES // NUM_PROCESSES)
            mine = (array if position in shared else array[rows] for position, array in enumerate(arrays))
            tensors = [torch.tensor(array) for array in mine]
            varied = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
            value = loss(*tensors, **settings)
            found.append([value.detach(), *torch.autograd.grad(value, varied)])
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def _error(found: Sequence[Any], expected: Sequence[Any], *finite: Tensor) -> float:
    """The largest difference of what was found, relative to the largest entry expected; inf where one is not finite."""
    pairs = [(np.asarray(f, np.float64), np.asarray(e, np.float64)) for f, e in zip(found, expected, strict=True)]
    if not all(np.isfinite(f).all() for f, _ in pairs) or not all(torch.isfinite(f).all() for f in finite):
        return float("inf")
    scale = max([1.0, *(float(np.abs(e).max()) for _, e in pairs)])
    return max([0.0, *_differences(pairs)]) / scale


def _differences(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[float]:
    for found, expected in pairs:
        yield float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _varies(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _cell(error: float | None) -> str:
    return "" if error is None else f"{error:.0e}"

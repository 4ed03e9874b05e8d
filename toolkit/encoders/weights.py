"""Weights into a network, with a report of every tensor that did not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from toolkit.console import log
from toolkit.errors import CheckpointError

MAX_NAMED = 3


@dataclass(frozen=True)
class KeyReport:
    """What became of the tensors of a file; all names are the network's.

    Attributes:
        matched: Loaded.
        missing: Of the network, and not in the file.
        unexpected: In the file, and not of the network.
        reshaped: In both, of different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def unfit(self) -> str:
        """All that did not fit, in words; empty where everything did."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        return "; ".join(
            f"{len(names)} {kind} ({', '.join(names[:MAX_NAMED])}{', ...' if len(names) > MAX_NAMED else ''})"
            for kind, names in kinds.items()
            if names
        )


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], name: str, *, strict: bool = True) -> KeyReport:
    """Copies `weights` into `module`, in place.

    Args:
        module: A network.
        weights: Tensors by the names that `module` has for them.
        name: What the weights are, for messages.
        strict: Refuse weights that do not fit exactly; otherwise load those that fit and log the others.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: Keys are missing, unexpected or of another shape and `strict` is true, or none fits.
    """
    own = module.state_dict()
    # Old files have no counts of batches, and nothing that is done with the weights looks at them.
    counts = {key: tensor for key, tensor in own.items() if key.endswith(".num_batches_tracked")}
    weights = {key: counts[key] for key in counts.keys() - weights.keys()} | dict(weights)
    both = own.keys() & weights.keys()
    reshaped = {key for key in both if own[key].shape != weights[key].shape}
    report = KeyReport(
        matched=tuple(sorted(both - reshaped)),
        missing=tuple(sorted(own.keys() - weights.keys())),
        unexpected=tuple(sorted(weights.keys() - own.keys())),
        reshaped=tuple(sorted(reshaped)),
    )
    if report.unfit and strict:
        raise CheckpointError(f"{name}: keys {report.unfit}; the weights belong to another network")
    if not set(report.matched) - counts.keys():
        raise CheckpointError(f"{name}: not one of its tensors fits: keys {report.unfit}")
    if report.unfit:
        log.warning("%s: keys %s; the others were loaded", name, report.unfit)
    module.load_state_dict({key: weights[key] for key in report.matched}, strict=False)
    return report

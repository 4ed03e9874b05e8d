"""Saved encoders can be read by whoever may read the folder."""

from pathlib import Path


def share_weights(folder: Path) -> None:
    """Gives the weights in `folder` the mode of its config.json, which the umask chose: safetensors' is 0600."""
    mode = (folder / "config.json").stat().st_mode & 0o777
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)

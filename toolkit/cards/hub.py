"""Files of a data set on the Hugging Face Hub at one commit."""

import errno
from pathlib import Path

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from toolkit.cards.source import NESTED, HfSource, Member
from toolkit.errors import FetchError


def download_from_hub(source: HfSource, members: tuple[Member, ...], folder: Path) -> Path:
    """Downloads the files that `members` name, with the Hub's own client, its settings and its log-in.

    Returns:
        `folder`, laid out as the repository is.

    Raises:
        FetchError: No network, no such repository, commit or file, or no right to it.
    """
    wanted = [member.path.split(NESTED)[0] for member in members]
    try:
        snapshot_download(
            source.repo,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=wanted,
            local_dir=folder,
        )
    except (httpx2.HTTPError, EntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FetchError(
            f"{source.repo} cannot be fetched from the Hub: {reason}; check network, name and log-in"
        ) from None
    return folder

"""Middle slices of many scans on one sheet."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import image

from toolkit.scans.audit.look import THUMBNAIL_PIXELS, unpacked_thumbnail

_COLUMNS, _MOST_PICTURES = 8, 48
_GAP = 2  # pixels between pictures


def montage(manifest: pd.DataFrame, thumbnails: Sequence[str | None]) -> tuple[str, int, int, int] | None:
    """The sheet of an audit, one picture a subject first.

    Args:
        manifest: As `manifest.csv`.
        thumbnails: Of each of its rows, see `look`; None where it must not be shown.

    Returns:
        A PNG in base64, how many scans it shows, its width and height in pixels; None without any.
    """
    may_show = [number for number, thumbnail in enumerate(thumbnails) if thumbnail is not None]
    turn = manifest.groupby("subject").cumcount().to_numpy()
    chosen = sorted(may_show, key=lambda number: (turn[number], number))
    if len(chosen) > _MOST_PICTURES and (turn[chosen] == 0).sum() > _MOST_PICTURES:
        chosen = [number for number in chosen if turn[number] == 0]
        chosen = [chosen[at] for at in np.linspace(0, len(chosen) - 1, _MOST_PICTURES).astype(int)]
    chosen = chosen[:_MOST_PICTURES]
    if not chosen:
        return None
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    side, step = THUMBNAIL_PIXELS, THUMBNAIL_PIXELS + _GAP
    sheet = np.zeros((rows * step - _GAP, columns * step - _GAP), np.uint8)
    for place, number in enumerate(chosen):
        top, left = place // columns * step, place % columns * step
        sheet[top : top + side, left : left + side] = unpacked_thumbnail(thumbnails[number] or "")
    buffer = io.BytesIO()
    image.imsave(buffer, np.repeat(sheet[..., None], 3, axis=2), format="png", metadata={"Software": None})
    height, width = sheet.shape
    return base64.b64encode(buffer.getvalue()).decode("ascii"), len(chosen), width, height

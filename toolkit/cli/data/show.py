"""`fewlabel data show`: a picture of one scan, a crop of it, and random views of the crop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.errors import DataError

if TYPE_CHECKING:
    from toolkit.scans import Preprocessing, ViewConfig, Volume


@data.command()
def show(
    scan: Annotated[
        str, typer.Argument(help="A file or DICOM folder, MANIFEST.csv#ROW (the first scan is 1), or STORE/KEY.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Keys of the views, or preprocessing.KEY, in place of the file's."),
    ] = None,
    to: Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture.")] = Path("views.png"),
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="FILE", help="A YAML file: views, or a recipe's configuration."),
    ] = None,
    views: Annotated[int, typer.Option(min=1, max=20, help="How many.")] = 6,
    at: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="I J K", help="Voxel of the preprocessed scan; by default amid the foreground."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws; a run's seed, epoch and sample give that run's views.")] = 0,
    epoch: Annotated[int, typer.Option(help="See seed.")] = 0,
    sample: Annotated[int, typer.Option(help="See seed.")] = 0,
) -> None:
    """Draw a crop of one scan and random views of it, with what was done to each.

    Columns are the scan with the crop's box, the crop as it was cut, and its
    views; rows are the axial, coronal and sagittal planes through the middle.
    The picture shows a patient: it is readable by you alone (0600); keep
    it where the scan may be kept.

    [bold]Examples[/]

    $ fewlabel data show private/manifest.csv#3 --out private/views.png

    $ fewlabel data show scan.nii.gz patch_size=64 elastic_probability=1

    $ fewlabel data show chest.nrrd modality=ct preprocessing.intensity=window
    """
    import numpy as np

    from toolkit.private import write_private
    from toolkit.scans import apply_parameters, identity_parameters, sample_parameters
    from toolkit.scans.pictures import captioned_png
    from toolkit.scans.views import describe

    if not to.parent.is_dir():
        raise DataError(f"--out {to}: there is no folder {to.parent}; make it, or give another --out")
    settings, spec = _settings(config, overrides or [])
    volume = _volume(scan, spec)
    size = settings.patch_size
    centre = np.array([at or _middle(volume.array[0])])
    if not ((centre >= 0) & (centre < volume.shape)).all():
        raise DataError(f"--at {' '.join(map(str, centre[0]))}: outside the scan, which has {volume.shape} voxels")

    def patch(parameters) -> np.ndarray:  # type: ignore[no-untyped-def]
        return apply_parameters(volume.array, centre, parameters, size)[0, 0]

    spacing = " x ".join(f"{mm:.3g}" for mm in volume.spacing_mm)
    columns = [("the scan", [f"voxels of {spacing} mm"], volume.array[0])]
    columns.append((f"{size} voxels, as cut", [], patch(identity_parameters(size, 1))))
    for number in range(views):
        parameters = sample_parameters(settings, seed, epoch, np.array([sample]), number, spacing_mm=volume.spacing_mm)
        columns.append((f"view {number}", describe(parameters, 0, size), patch(parameters)))
    low = centre[0] - size // 2
    write_private(to, captioned_png(columns, (low, low + size), volume.spacing_mm))
    out.print(f"views  {to}", markup=False)


def _settings(config: str | None, overrides: list[str]) -> "tuple[ViewConfig, Preprocessing]":
    """Views and preprocessing that a file and overrides describe."""
    from toolkit.assets import find_asset
    from toolkit.config import Section, read_values, validate
    from toolkit.config.load import apply_override
    from toolkit.scans import Preprocessing, ViewConfig

    class Settings(Section):
        """What `show` reads."""

        views: ViewConfig = ViewConfig()
        preprocessing: Preprocessing = Preprocessing()

    values = read_values(find_asset("configs", config).path) if config else {}
    if not values.keys() & {"views", "preprocessing", "output"}:
        values = {"views": values}
    values = {key: values[key] for key in Settings.model_fields if values.get(key) is not None}
    for override in overrides:
        apply_override(values, override if override.startswith(("views.", "preprocessing.")) else f"views.{override}")
    settings = validate(values, Settings, config or "configuration")
    return settings.views, settings.preprocessing


def _volume(scan: str, spec: "Preprocessing") -> "Volume":
    """The preprocessed scan that an argument names."""
    from toolkit.scans import VolumeStore, preprocess, read_volume
    from toolkit.scans.manifest import read_manifest

    path, store = Path(scan), VolumeStore(Path(scan).parent)
    if path.name in store:
        return store.get(path.name).load()
    manifest, _, row = scan.partition("#")
    if manifest.lower().endswith(".csv"):
        rows = read_manifest(Path(manifest), needed=("path",))
        if not row.isdigit() or not 1 <= int(row) <= len(rows):
            raise DataError(f"{scan}: which row? {manifest} has the rows 1 to {len(rows)}; name one as {manifest}#1")
        scan = rows["path"][int(row) - 1]
    return preprocess(read_volume(scan), spec)


def _middle(array):  # type: ignore[no-untyped-def]
    """The foreground voxel nearest to the foreground's centre of mass."""
    import numpy as np

    voxels = np.argwhere(array > 0)
    if not len(voxels):
        raise DataError("the scan has no foreground, no voxel above 0; --at I J K says where to look")
    return tuple(voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()])

"""`fewlabel data build`: scans of a manifest into a store that every run reads."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.app import out
from toolkit.cli.data.app import data
from toolkit.cli.data.audit import DONE_WITH_REFUSALS


@data.command()
def build(
    manifest: Annotated[Path, typer.Argument(help="A manifest.csv that `fewlabel data audit` wrote.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Preprocessing, in place of the file's.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="STORE", help="Default: `store` beside the manifest.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="FILE", help="A YAML file: preprocessing, or a recipe's configuration."),
    ] = None,
    label_maps: Annotated[
        str,
        typer.Option(
            metavar="RULE", help='Masks: "{folder}/{name}_seg.nii.gz", or a CSV with the columns path and label_map.'
        ),
    ] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Build a few scans, say what all take, keep none.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every source again, changed or not.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="A scan that takes longer is refused.")] = 600.0,
) -> None:
    """Preprocess every scan of a manifest once, into a compressed store.

    Scans are found again by their content, the preprocessing and the version of
    both, so nothing is ever stale: what is stored is kept, what is new or
    changed is built, and the same command goes on where it was cut off. Several
    builds at once share the work. A scan that cannot be used is listed with its
    reason in build_refused.csv beside the manifest, and the exit code is 3.

    [bold]Examples[/]

    $ fewlabel data build private/export/manifest.csv --plan

    $ fewlabel data build private/export/manifest.csv intensity=window "window_hu=[-1000, 400]" crop_margin_mm=10
    """
    from toolkit.scans import build_store
    from toolkit.scans.build import write_refused
    from toolkit.scans.planning import plan_store

    spec, store = _spec(config, overrides or []), to or manifest.parent / "store"
    options = {"label_maps": label_maps, "num_workers": workers, "timeout_s": timeout, "verify": verify}
    lines = []
    if plan:
        planned = plan_store(manifest, spec, store, **options)
        refused, path = planned.refused, None
        lines.append(("scans", f"{planned.num_scans:,}, of which {planned.num_left:,} are not stored yet"))
        lines.append(("sampled", f"{planned.num_sampled} of them; none is kept"))
        if planned.num_bytes is not None and planned.seconds is not None:
            share = planned.num_bytes / planned.float_bytes
            lines.append(("size", f"about {_size(planned.num_bytes)} in all, {share:.0%} of float32's"))
            lines.append(("time", f"about {_duration(planned.seconds)} with {planned.num_workers} processes"))
    else:
        built = build_store(manifest, spec, store, **options)
        refused, path = built.refused, write_refused(manifest, built)
        stored, new = int((built.rows["key"] != "").sum()), len(built.made)
        lines.append(
            ("stored", f"{stored:,} scans, {new:,} of them new, {_size(built.made['num_bytes'].sum())}: {store}")
        )
    if not refused.empty:
        lines.append(("refused", f"{len(refused):,}: {path}" if path else f"{len(refused):,} of the sample"))
    for heading, line in lines:
        out.print(f"[bold]{heading:<9}[/]", end=" ")
        out.print(line, markup=False)
    if not refused.empty:
        raise typer.Exit(DONE_WITH_REFUSALS)


def _spec(config: str | None, overrides: list[str]):  # type: ignore[no-untyped-def]
    """The preprocessing that a file and overrides describe."""
    from toolkit.assets import find_asset
    from toolkit.config import read_values, validate
    from toolkit.config.load import apply_override
    from toolkit.scans import Preprocessing

    values = read_values(find_asset("configs", config).path) if config else {}
    values = values.get("preprocessing", {}) if "output" in values or "preprocessing" in values else values
    for override in overrides:
        apply_override(values, override)
    return validate(values, Preprocessing, config or "preprocessing")


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.3g} MB"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"

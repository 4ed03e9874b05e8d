"""How every page is made from its template."""

from pathlib import Path

import jinja2


def page_environment(*folders: Path) -> jinja2.Environment:
    """Templates of `folders`, then those that all pages share. Values are escaped; a missing one is an error."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [*map(jinja2.FileSystemLoader, folders), jinja2.PackageLoader("toolkit.reports", "templates")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

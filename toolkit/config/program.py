"""`main(run, Config)`: what makes a recipe a program, and what turns errors into one line and an exit code."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from toolkit.config.help import field_lines
from toolkit.config.load import load
from toolkit.config.section import Section
from toolkit.console import setup_logging
from toolkit.errors import FewlabelError

S = TypeVar("S", bound=Section)


def main(run: Callable[[S], Any], schema: type[S]) -> None:
    """Runs a recipe from the command line: `python recipes/NAME.py --config FILE [key=value ...]`.

    The caller's module docstring is the help text, followed by every key with its type, default and meaning.
    """
    module = sys.modules[run.__module__]
    parser = argparse.ArgumentParser(
        description=module.__doc__,
        epilog="keys:\n" + "\n".join(field_lines(schema)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML file; see configs/")
    parser.add_argument("--plan", action="store_true", help="time a few steps, say what the training takes, stop")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="write a trace of N steps")
    parser.add_argument("--force", action="store_true", help="go on with a run of other values or another version")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values that replace those of the file")
    arguments = parser.parse_args()
    with friendly_errors():
        setup_logging()
        chosen = flags(arguments.plan, arguments.profile, arguments.force)
        run(load(arguments.config, schema, [*arguments.overrides, *chosen]))


def flags(plan: bool, profile: int, force: bool) -> list[str]:
    """The overrides that the flags of a start stand for."""
    chosen = {"plan=true": plan, f"profile_steps={profile}": profile, "force=true": force}
    return [override for override, given in chosen.items() if given]


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Ends the program with a clear line where a user can put things right, with a traceback where we must.

    `FEWLABEL_DEBUG=1` shows the traceback always.
    """
    try:
        yield
    except FewlabelError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues from what was saved last", 130)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        _fail(f"{error.filename}: {error.strerror}; give another folder, or mend this one", 1)
    except Exception as error:
        # Libraries in Rust (safetensors, tokenizers) have errors of their own, with the system's words but no number.
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
        if not full:
            raise
        file = getattr(error, "filename", None)
        where = f" while writing {file}" if file else ""
        _fail(f"the disk is full{where}; free some space and run the same command again: it continues", 1)


def _fail(message: str, code: int) -> None:
    if os.environ.get("FEWLABEL_DEBUG"):
        raise
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)

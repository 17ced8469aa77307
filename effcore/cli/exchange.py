"""The commands ``python -m effcore export`` and ``import``: runs as bundle files."""

from __future__ import annotations

from pathlib import Path

import click

from effcore.runs.exchange import (
    BundleError,
    RunIdTakenError,
    export_run,
    import_bundle,
    read_bundle_file,
)
from effcore.store import Store, StoreError


@click.command("export")
@click.argument("run")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_command(run: str, file: Path) -> None:
    """Export a run to a file.

    FILE holds the settings, series, decisions, name, tags and note of RUN, which must have ended.
    """
    store = _open_store()
    try:
        export_run(store, run, file)
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except FileExistsError:
        raise click.ClickException(f"{file.name} exists already: choose another name") from None
    except OSError as error:
        raise click.ClickException(f"{file.name} cannot be written: {error.strerror}") from None
    finally:
        store.close()
    click.echo(file)


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--fresh-id", is_flag=True, help="Store the run under a fresh id, in case its own is taken."
)
def import_command(file: Path, fresh_id: bool) -> None:
    """Import a run and print its id.

    The run in FILE is marked as trained on another machine.
    """
    store = _open_store()
    try:
        click.echo(import_bundle(store, read_bundle_file(file), fresh_id=fresh_id))
    except OSError as error:
        raise click.ClickException(f"{file.name} cannot be read: {error.strerror}") from None
    except RunIdTakenError as error:
        raise click.ClickException(f"{error} (--fresh-id)") from None
    except BundleError as error:
        raise click.ClickException(f"{file.name} cannot be imported: {error}") from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()


def _open_store() -> Store:
    try:
        return Store()
    except StoreError as error:
        raise click.ClickException(str(error)) from None

"""`apply`."""

from __future__ import annotations

import click

from metricshub_apikey.cli import handing, reports
from metricshub_apikey.cli.options import FILE, Command, common_options, pass_session
from metricshub_apikey.cli.session import Session
from metricshub_apikey.registry import key_folder
from metricshub_apikey.registry.manifest import read_manifest
from metricshub_apikey.registry.plan import apply as bring_to
from metricshub_apikey.registry.plan import preview


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--prune", is_flag=True, help="Revoke the keys that the list lacks.")
@click.option(
    "--out-dir",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The folder for new keys, in a file each that only you can read.",
)
@common_options()
@pass_session
def apply(session: Session, *, file: str, dry_run: bool, prune: bool, out_dir: str | None) -> None:
    """
    Bring the keystore to what a YAML or TOML list of keys says.

    \b
    Example:
      apikey apply keys.yaml --dry-run
    """
    wanted = read_manifest(file, stdin=session.open_stdin(file), zone=session.zone)
    registry = session.issuing_registry
    plan = preview(registry, wanted, prune=prune)
    with key_folder.KeyFolder(out_dir) as folder:
        if plan.steps and not dry_run:
            folder.require(plan.created)
            plan = bring_to(registry, wanted, prune=prune, deliver=folder.write)
        folder.keep()
    with handing.after("The list has been applied"):
        reports.show_plan(session.view(), plan, dry_run=dry_run, files=folder.files)


COMMANDS = (apply,)

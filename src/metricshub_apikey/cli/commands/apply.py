"""`apply`: the keystore is brought to what a list of keys says."""

from __future__ import annotations

from collections.abc import Mapping

import click

from metricshub_apikey.cli.key_text import line
from metricshub_apikey.cli.options import FILE, Command, common_options, pass_session, yes_option
from metricshub_apikey.cli.result import Document, Result
from metricshub_apikey.cli.session import Session
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.registry.key_folder import KeyFolder
from metricshub_apikey.registry.manifest import read_manifest
from metricshub_apikey.registry.plan import Plan, Step

SIGNS = {"create": "+", "edit": "~", "remove": "-"}


class Applied(Result):
    """What is done, or would be; *files* has the file of each new key by its alias."""

    def __init__(
        self, plan: Plan, keystore: str, *, dry_run: bool, files: Mapping[str, str]
    ) -> None:
        self.plan = plan
        self.keystore = keystore
        self.dry_run = dry_run
        self.files = files

    def document(self) -> Document:
        """Return each step with its fields and its file."""
        steps = [
            {**step._asdict(), "fields": [*step.fields], "file": self.files.get(step.alias)}
            for step in self.plan.steps
        ]
        return {"keystore": self.keystore, "dry_run": self.dry_run, "steps": steps}

    def lines(self) -> list[str]:
        """Return a line for each step."""
        return [*map(self._line, self.plan.steps)] or ["Nothing to change."]

    def _line(self, step: Step) -> str:
        fields = f" ({', '.join(step.fields)})" if step.fields else ""
        file = self.files.get(step.alias)
        place = f": written to {escape(file)}" if file else ""
        return f"{SIGNS[step.action]} {escape(step.alias)}{fields}{place}"


@click.command("apply", cls=Command)
@click.argument("file", type=FILE)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--prune", is_flag=True, help="Revoke the keys that the list lacks.")
@click.option(
    "--out-dir",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The folder for new keys, in a file each that only you can read.",
)
@yes_option
@common_options()
@pass_session
def command(
    session: Session, *, file: str, dry_run: bool, prune: bool, out_dir: str | None, yes: bool
) -> None:
    """
    Bring the keystore to what a YAML or TOML list of keys says.

    \b
    Example:
      apikey apply keys.yaml --dry-run

    With --prune the keys that would go are shown, and it asks, or needs --yes.
    """
    wanted = read_manifest(file, stdin=session.open_stdin(file), zone=session.zone)
    keys, policy = session.keys, session.policy
    plan = keys.preview(wanted, prune=prune, policy=policy)
    with KeyFolder(out_dir) as folder:
        if plan.steps and not dry_run:
            folder.require(plan.created)
            if plan.removed and not yes:
                _ask(session, plan)
            agreed = plan.removed
            plan = keys.apply(
                wanted, prune=prune, deliver=folder.write, policy=policy, agreed=agreed
            )
        folder.keep()
    applied = Applied(plan, session.location.path, dry_run=dry_run, files=folder.files)
    session.out.show(applied, done="The list has been applied")


def _ask(session: Session, plan: Plan) -> None:
    """Show which keys would go, and ask: an empty list may be a mistake."""
    session.require_terminal()
    for key in plan.removed:
        session.out.tell(line(key, session.now))
    session.agree(f"Revoke {'this key' if len(plan.removed) == 1 else 'these keys'}?")

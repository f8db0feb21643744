"""`create`, `list`, `show` and `edit`."""

from __future__ import annotations

from typing import Any

import click

from metricshub_apikey.cli import completion, handing, views
from metricshub_apikey.cli.fields import new_metadata, revision
from metricshub_apikey.cli.options import (
    Command,
    asked_expiry,
    common_options,
    exclude,
    expiry_options,
    length,
    out_option,
    pass_session,
    quiet,
    roles_option,
    state_option,
)
from metricshub_apikey.cli.output import Form, escape
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError, KeyExistsError
from metricshub_apikey.keys.api_key import ApiKey, differences
from metricshub_apikey.keys.selection import Selection, check_label_filter
from metricshub_apikey.pkcs12.bag import fold
from metricshub_apikey.registry import issuing

ALIAS = click.argument("alias", shell_complete=completion.complete_alias)


@click.command(cls=Command)
@click.argument("alias")
@expiry_options
@roles_option("--role", "roles", "What the key may do, behind the gateway")
@click.option("--service-account", metavar="NAME", help="Whom a service sees; default: the alias.")
@click.option("--description", metavar="TEXT", help="What the key is for.")
@click.option(
    "--label", "labels", metavar="NAME=VALUE", multiple=True, help="A label; may be repeated."
)
@out_option
@click.option("--if-missing", is_flag=True, help="Succeed if the alias exists already.")
@quiet("Print the key alone.")
@common_options()
@pass_session
def create(
    session: Session,
    /,
    *,
    alias: str,
    expires_on: str | None,
    expires_in: str | None,
    out: str | None,
    if_missing: bool,
    **fields: Any,  # noqa: ANN401 - what Click passes
) -> None:
    """
    Create an API key and show it, once.

    \b
    Example:
      apikey create ci-prod --expires-in 90d --role metrics-writer
    """
    metadata = new_metadata(**fields)
    moment = asked_expiry(session, expires_on, expires_in)
    try:
        if if_missing:
            session.registry.require_free(alias)
        with handing.reserve(out) as file:
            key = session.issuing_registry.create(alias, expires_on=moment, metadata=metadata)
            if key.alias != alias:
                session.out.note(f"Stored as '{key.alias}': Java ignores letter case.")
            if metadata.roles and not session.policy.enforced:
                session.out.note(
                    "A stock MetricsHub server gives every key full access: roles count only "
                    "where a gateway checks them."
                )
            view = session.view()
            handing.hand_out(
                key,
                alias,
                file,
                lambda: views.show_created(view, key, alias=alias, file=out),
                session.out,
            )
    except KeyExistsError:
        if not if_missing:
            raise
        views.show_exists(session.view(), fold(alias))


@click.command("list", cls=Command)
@click.option("--long", is_flag=True, help="Show a table of all that is known of each key.")
@click.option("--expired", is_flag=True, help="Only expired keys.")
@click.option(
    "--expiring-in", metavar="LENGTH", type=length, help="Only keys that expire within that time."
)
@click.option(
    "--unused-for",
    metavar="LENGTH",
    type=length,
    help="Only keys not used for that long, as far as their use was recorded.",
)
@roles_option("--role", "roles", "Only keys with that role")
@click.option(
    "--label",
    "labels",
    metavar="NAME=VALUE",
    multiple=True,
    help="Only keys with that label; may be repeated.",
)
@click.option("--created-by", metavar="USER", help="Only keys made by that user, or user@host.")
@quiet("Print the aliases alone.")
@state_option
@common_options(Form.CSV)
@pass_session
def list_(session: Session, /, *, long: bool, **filters: Any) -> None:  # noqa: ANN401 - from Click
    """
    List the API keys, masked, in the order of the keystore.

    \b
    Example:
      apikey list --long --expiring-in 30d
    """
    selection = Selection(**filters)
    for label in selection.labels:
        check_label_filter(label)
    if session.quiet and selection == Selection():
        return session.out.lines([escape(alias) for alias in session.registry.aliases()])
    return show_list(session, selection, long=long)


def show_list(session: Session, selection: Selection, *, long: bool) -> None:
    """Read the keys and show those that are selected, in the form that was asked for."""
    table = long and session.out.form is Form.TEXT
    complete = table or session.out.form in (Form.JSON, Form.CSV)
    with session.out.progress("Deriving keys") as progress:
        metadata = complete or selection != Selection()
        found = session.registry.list(progress, metadata=metadata)
    views.warn_of_unreadable(session.out, found)
    view = session.view(usage=complete or selection.unused_for is not None)
    shown = found
    if selection != Selection():
        shown = selection.select(found, now=view.now, usage=view.usage)
    if table and shown:
        from metricshub_apikey.cli.tables import show_long

        return show_long(view, shown)
    return views.show_keys(view, shown, all_keys=selection == Selection())


@click.command(cls=Command)
@ALIAS
@state_option
@common_options()
@pass_session
def show(session: Session, *, alias: str) -> None:
    """
    Show everything about one key, but not the key itself.

    \b
    Example:
      apikey show ci-prod
    """
    views.show_key(session.view(usage=True), session.registry.get(alias))


@click.command(cls=Command)
@ALIAS
@expiry_options
@click.option("--no-expiry", is_flag=True, help="The key never expires.")
@roles_option("--add-role", "added_roles", "Give it that role")
@roles_option("--remove-role", "removed_roles", "Take that role away")
@click.option(
    "--label", "labels", metavar="NAME=VALUE", multiple=True, help="Set a label; may be repeated."
)
@click.option(
    "--remove-label",
    "removed_labels",
    metavar="NAME",
    multiple=True,
    help="Take a label away; may be repeated.",
)
@click.option("--service-account", metavar="NAME", help="Whom a service sees; '' for the alias.")
@click.option("--description", metavar="TEXT", help="What the key is for; '' for nothing.")
@common_options()
@pass_session
def edit(
    session: Session,
    /,
    *,
    alias: str,
    expires_on: str | None,
    expires_in: str | None,
    no_expiry: bool,
    **fields: Any,  # noqa: ANN401 - what Click passes
) -> None:
    """
    Change a key's expiry, roles or purpose; the key itself stays.

    \b
    Example:
      apikey edit ci-prod --add-role read-only --label env=production
    """
    exclude(
        [("--expires-on", expires_on), ("--expires-in", expires_in), ("--no-expiry", no_expiry)]
    )
    moment = asked_expiry(session, expires_on, expires_in)
    if not (moment or no_expiry or any(value not in (None, ()) for value in fields.values())):
        raise InvalidArgumentError("Name something to change.")
    revise = revision(**fields)

    def change(key: ApiKey) -> ApiKey:
        if no_expiry and key.unreadable is not None:
            raise issuing.unchangeable(key)
        ends = moment if moment or no_expiry else key.expires_on
        return key._replace(expires_on=ends, metadata=revise(key.metadata))

    old, new = session.issuing_registry.edit(alias, change)
    with handing.after("The API key has been changed"):
        views.show_edited(session.view(), new, differences(old, new))


COMMANDS = (create, list_, show, edit)

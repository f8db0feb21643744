"""`console`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from metricshub_apikey.activity.caller import caller
from metricshub_apikey.cli.options import FILE, Command, common_options, pass_session
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError, MissingExtraError
from metricshub_apikey.policy.location import named_policy

if TYPE_CHECKING:
    from metricshub_apikey.console.application import Settings
    from metricshub_apikey.http.listener import Listen

PACKAGES = ("uvicorn", "httptools", "bcrypt", *(() if sys.platform == "win32" else ("uvloop",)))


def _origin(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the origin in the URL that browsers use."""
    if value is None:
        return None
    parts = urlsplit(value.lower())
    plain = not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise click.BadParameter(
            f"'{value}' is not an address such as https://keys.example.", context, parameter
        )
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


@click.command("console", cls=Command)
@click.option(
    "--port",
    metavar="NUMBER",
    type=click.IntRange(0, 65_535),
    default=0,
    help="Where to listen; default: a free port.",
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", help="Where to listen; default: 127.0.0.1."
)
@click.option("--tls-cert", metavar="FILE", type=FILE, help="Speak TLS, with this certificate.")
@click.option("--tls-key", metavar="FILE", type=FILE, help="The certificate's private key.")
@click.option(
    "--public-url",
    metavar="URL",
    callback=_origin,
    help="The address that browsers use, behind a proxy: https://keys.example.",
)
@click.option("--users", is_flag=True, help="Let MetricsHub's users in, by their passwords.")
@click.option("--api-only", is_flag=True, help="Serve the API without the page.")
@click.option("--open", "open_it", is_flag=True, help="Open the page in a browser; never as root.")
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    port: int,
    host: str,
    tls_cert: str | None,
    tls_key: str | None,
    **how: bool | str | None,
) -> None:
    """
    Manage the keys on a page in the browser, or through its API.

    \b
    Example:
      apikey console

    Prints one link, which works once. Beyond this machine it needs TLS, or a proxy with
    --public-url.
    """
    try:
        from metricshub_apikey.console import server
        from metricshub_apikey.http.listener import Listen
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise MissingExtraError("console") from error
    listen = Listen(host, port, tls_cert=tls_cert, tls_key=tls_key)
    listen.check()
    settings = _settings(session, listen, how)
    open_it = _browser(settings, asked=bool(how["open_it"]))
    server.serve(
        settings,
        listen,
        say=session.out.note,
        show=lambda lines: session.out.write("\n".join(lines)),
        open_browser=open_it,
        ssh=_ssh(settings.actor),
    )


def _settings(session: Session, listen: Listen, how: dict[str, bool | str | None]) -> Settings:
    from metricshub_apikey.console.application import Settings
    from metricshub_apikey.console.guard import Place
    from metricshub_apikey.console.known import Files
    from metricshub_apikey.keystore.keystore import LOCK_TIMEOUT

    public = how["public_url"]
    files = Files(
        session.location.path,
        session.passwords,
        named_policy(session.policy_file, os.environ),
        LOCK_TIMEOUT if session.lock_timeout is None else session.lock_timeout,
    )
    place = Place(
        public if isinstance(public, str) else None, "https" if listen.tls_cert else "http"
    )
    if how["users"]:
        _require_bcrypt()
    api_only = bool(how["api_only"])
    sign_in = "users" if how["users"] else "none" if api_only else "link"
    return Settings(
        files,
        place,
        sign_in,  # type: ignore[arg-type]
        not api_only,
        caller(os.environ),
        session.timezone,
    )


def _require_bcrypt() -> None:
    from importlib.util import find_spec

    if find_spec("bcrypt") is None:
        raise MissingExtraError("console")


def _browser(settings: Settings, *, asked: bool) -> Callable[[str], None] | None:
    """Return what opens a file in a browser, if that is asked for."""
    if not asked:
        return None
    if settings.how != "link":
        raise InvalidArgumentError("--open goes with neither --users nor --api-only.")
    if sys.platform != "win32" and os.geteuid() == 0:
        raise InvalidArgumentError("--open does not open a browser as root: use the link.")

    def show(path: str) -> None:
        import webbrowser
        from pathlib import Path

        webbrowser.open(Path(path).as_uri())

    return show


def _ssh(actor: str) -> str | None:
    """Return how the person at the other end of SSH names this machine; None without SSH."""
    server = os.environ.get("SSH_CONNECTION", "").split(" ")
    return f"{actor.partition('@')[0]}@{server[2]}" if len(server) == 4 else None

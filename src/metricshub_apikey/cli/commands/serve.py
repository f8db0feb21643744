"""`serve`: the gateway decides for a reverse proxy."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from metricshub_apikey.cli.options import FILE, Command, common_options, pass_session, state_option
from metricshub_apikey.cli.session import Session
from metricshub_apikey.errors import InvalidArgumentError, MissingExtraError
from metricshub_apikey.policy.location import named_policy

if TYPE_CHECKING:
    from metricshub_apikey.gateway import server
    from metricshub_apikey.gateway.service import StateFailure

PACKAGES = ("uvicorn", "httptools", "aiohttp", *(() if sys.platform == "win32" else ("uvloop",)))


ASK = ("127.0.0.1", 8485)


def _address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    """Return host and port of `HOST:PORT`; a host alone has the default port."""
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        host, port = value, "8484"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter(f"'{value}' is not HOST:PORT.", context, parameter)
    return host, int(port)


def _public(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    from metricshub_apikey.policy.access import check_public

    try:
        for rule in value:
            check_public(rule)
    except InvalidArgumentError as error:
        raise click.BadParameter(error.message, context, parameter) from None
    return value


def _front(options: dict[str, Any], trusted: str | None) -> server.Front | None:
    """Take what belongs to an upstream out of the options; return None where there is none."""
    url, ask = options.pop("upstream"), options.pop("ask_bind")
    given = {
        "insecure": options.pop("upstream_insecure"),
        "ca": options.pop("upstream_ca"),
        "pass_authorization": options.pop("pass_authorization"),
    }
    if url is None:
        if ask or any(given.values()):
            raise click.UsageError(
                "--ask-bind, --pass-authorization, --upstream-insecure and --upstream-ca go with "
                "--upstream."
            )
        return None
    from metricshub_apikey.gateway import proxy, server
    from metricshub_apikey.http.listener import LOOPBACK, Listen

    upstream = proxy.Upstream(url, **given)
    upstream.check()
    networks = LOOPBACK if trusted is None else tuple(trusted.split(","))
    host, port = ask or ASK
    listen = Listen(host, port, insecure=options["insecure"], trusted=networks)
    listen.check()
    return server.Front(upstream, listen)


@click.command("serve", cls=Command)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    default="127.0.0.1:8484",
    callback=_address,
    help="Where to listen; default: 127.0.0.1:8484.",
)
@click.option("--unix", metavar="PATH", type=FILE, help="Listen on this Unix socket instead.")
@click.option("--tls-cert", metavar="FILE", type=FILE, help="Speak TLS, with this certificate.")
@click.option("--tls-key", metavar="FILE", type=FILE, help="The certificate's private key.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS.")
@click.option(
    "--trusted-proxies",
    "trusted",
    metavar="NETWORKS",
    help="Who may ask, such as 10.0.0.0/8,192.0.2.7; default: this machine.",
)
@state_option
@click.option(
    "--state-failure",
    type=click.Choice(["local", "closed"]),
    default="local",
    help="Without an answer of the state: count here, or refuse. Default: local.",
)
@click.option(
    "--public",
    metavar="RULE",
    multiple=True,
    callback=_public,
    help="What needs no key, such as 'OPTIONS /**'; may be given several times.",
)
@click.option("--no-limits", is_flag=True, help="Do not count requests.")
@click.option("--log-all", is_flag=True, help="Log every decision, not only refusals.")
@click.option(
    "--workers",
    metavar="NUMBER",
    type=click.IntRange(1, 256),
    default=1,
    help="How many processes; default: 1.",
)
@click.option("--upstream", metavar="URL", help="Be the reverse proxy in front of this service.")
@click.option("--pass-authorization", is_flag=True, help="Give the key to the service, too.")
@click.option("--upstream-insecure", is_flag=True, help="Do not check the service's certificate.")
@click.option(
    "--upstream-ca", metavar="FILE", type=FILE, help="Trust this certificate of the service."
)
@click.option(
    "--ask-bind",
    metavar="HOST:PORT",
    callback=_address,
    help="With --upstream, where /auth, /healthz and /metrics are; default: 127.0.0.1:8485.",
)
@common_options()
@pass_session
def command(
    session: Session,
    /,
    *,
    bind: tuple[str, int],
    trusted: str | None,
    state_failure: StateFailure,
    public: tuple[str, ...],
    no_limits: bool,
    log_all: bool,
    **where: Any,  # noqa: ANN401 - the other fields of Listen, and those of Upstream
) -> None:
    """
    Decide for a reverse proxy whether a request may pass.

    \b
    Example:
      apikey serve --bind 127.0.0.1:8484
      apikey serve --upstream https://127.0.0.1:31888 \\
        --pass-authorization --upstream-insecure

    nginx, Caddy and Traefik ask at /auth, Envoy below /envoy. SIGHUP reads keystore, policy and
    certificate anew, SIGTERM ends well. Log lines go to standard error; with --output json, as
    JSON. With --upstream it is a reverse proxy itself.
    """
    try:
        from metricshub_apikey.gateway import server, service
        from metricshub_apikey.http import listener

        front = _front(where, trusted)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise MissingExtraError("gateway") from error
    networks = listener.LOOPBACK if trusted is None else tuple(trusted.split(","))
    listen = listener.Listen(*bind, trusted=networks, **where)
    listen.check()
    settings = service.Settings(
        session.location.path,
        passwords=session.passwords,
        policy=named_policy(session.policy_file, os.environ),
        state=session.state,
        state_failure=state_failure,
        limits=not no_limits,
        log_form=session.out.form.log_form,
        log_all=log_all,
        public=public,
        trusted=tuple(listen.networks) if front is None or trusted else (),
        timezone=session.timezone,
    )
    server.serve(settings, listen, front)

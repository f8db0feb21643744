"""Services behind a proxy that are not ours: each reads requests in its own way."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from conftest import missing
from servers import ask, free_port, running, wait_until

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    text = f"{scope['method']} {scope['path']} HTTP/{scope['http_version']}".encode()
    print("asked", text.decode(), flush=True)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
"""

TOMCAT = Path("/usr/share/tomcat10")
SERVER_XML = """<Server port="-1"><Service name="Catalina">
<Connector port="PORT" address="127.0.0.1" protocol="HTTP/1.1"/>
<Engine name="Catalina" defaultHost="localhost">
<Host name="localhost" appBase="webapps" autoDeploy="false"/>
</Engine></Service></Server>
"""
WEB_XML = """<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="5.0">
<servlet><servlet-name>default</servlet-name>
<servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class></servlet>
<servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
</web-app>
"""

SECRET = "what only an administrator may read"


@contextlib.contextmanager
def hypercorn(folder: Path) -> Iterator[int]:
    """Run hypercorn, which speaks h2c as shipped, until the block ends; return its port."""
    folder.mkdir()
    (folder / "application.py").write_text(APPLICATION)
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "application:app", "--bind", f"127.0.0.1:{port}"]
    with running(command, port=port, environment={**os.environ, "PYTHONPATH": str(folder)}):
        yield port


@contextlib.contextmanager
def tomcat(folder: Path) -> Iterator[int]:
    """Run Debian's Tomcat with a public and a secret file until the block ends; return its port."""
    if not (TOMCAT / "bin" / "bootstrap.jar").exists():
        missing("tomcat10")
    port = free_port()
    for name in ("conf", "temp", "logs", "work", "webapps/ROOT/public", "webapps/ROOT/admin"):
        (folder / name).mkdir(parents=True)
    (folder / "conf" / "server.xml").write_text(SERVER_XML.replace("PORT", str(port)))
    (folder / "conf" / "web.xml").write_text(WEB_XML)
    (folder / "webapps" / "ROOT" / "public" / "x").write_text("for all")
    (folder / "webapps" / "ROOT" / "admin" / "index.html").write_text(SECRET)
    (folder / "webapps" / "ROOT" / "admin" / "x").write_text(SECRET)
    jars = ":".join(str(TOMCAT / "bin" / f"{name}.jar") for name in ("bootstrap", "tomcat-juli"))
    where = [f"-Dcatalina.home={TOMCAT}", f"-Dcatalina.base={folder}", "-Xshare:auto", "-Xmx128m"]
    command = ["java", "-cp", jars, *where, "-Djava.io.tmpdir=" + str(folder / "temp")]
    with running([*command, "org.apache.catalina.startup.Bootstrap", "start"], port=port):
        wait_until(lambda: ask(port, "/public/x").status == 200, "Tomcat has its files")
        yield port

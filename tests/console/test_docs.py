"""The examples of docs/api.md, run as they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from consoles import serving
from metricshub_apikey import ApiKeys
from servers import program

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text("utf-8")


def test_the_examples_work(keystore: Path, environment: dict[str, str]) -> None:
    """One after the other, with the policy of the document; each succeeds."""
    program("curl")
    keystore.parent.mkdir(parents=True)
    (policy,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (keystore.parent / "apikey.toml").write_text(policy)
    token = ApiKeys(keystore).create("deploy", roles=["deployer"]).secret.reveal()
    examples = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    pattern = r"(https?://[^ ]*?:(\d+))/\."
    with serving(keystore, "--api-only", environment=environment, pattern=pattern) as console:
        variables = {**environment, "CONSOLE": console.origin, "TOKEN": token}
        for example in examples:
            command = ["sh", "-ec", example]
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (example, done.stdout, done.stderr)
    assert len(examples) == 6
    assert ApiKeys(keystore).aliases() == ("deploy",)

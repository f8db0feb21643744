"""Write the keystores of this folder and expected.json; README.md has the command."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stock import Stock, compile_stock

HERE = Path(__file__).parent
LEGACY = ("-Dkeystore.pkcs12.legacy",)


def variant(**properties: str | int) -> tuple[str, ...]:
    """Return the JVM options for some `keystore.pkcs12.*` properties."""
    return tuple(f"-Dkeystore.pkcs12.{name}={value}" for name, value in properties.items())


def keys(algorithm: str) -> tuple[str, ...]:
    """Return the JVM options for entries under another algorithm."""
    return variant(keyProtectionAlgorithm=f"PBEWithHmac{algorithm}", keyPbeIterationCount=1000)


def mac(algorithm: str) -> tuple[str, ...]:
    """Return the JVM options for another MAC."""
    return variant(macAlgorithm=algorithm, macIterationCount=1000)


# file name: runtime, options, kind of content (see WriteVectors.java)
FILES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "jdk11.0.5": ("11.0.5", (), "keys"),
    "jdk11.0.5-mixed": ("11.0.5", (), "mixed"),
    "jdk11.0.10": ("11.0.10", (), "keys"),
    "jdk11.0.13": ("11.0.13", (), "keys"),
    "jdk17.0.9": ("17.0.9", (), "keys"),
    "jdk17.0.15": ("17.0.15", (), "keys"),
    "jdk17.0.15-legacy": ("17.0.15", LEGACY, "keys"),
    "jdk17.0.15-mixed": ("17.0.15", (), "mixed"),
    "jdk17.0.15-attrs": ("17.0.15", (), "attrs"),
    "jdk21.0.8": ("21.0.8", (), "keys"),
    "jdk25.0.2": ("25.0.2", (), "keys"),
    "jdk25.0.2-mixed": ("25.0.2", (), "mixed"),
    "legacy-2021": ("17.0.15", LEGACY, "master"),
    "chain-legacy-17": ("17.0.15", (), "add"),
    "jdk17.0.15-sha1-aes128": ("17.0.15", keys("SHA1AndAES_128"), "keys"),
    "jdk17.0.15-sha224-aes256": ("17.0.15", keys("SHA224AndAES_256"), "keys"),
    "jdk17.0.15-sha384-aes128": ("17.0.15", keys("SHA384AndAES_128"), "keys"),
    "jdk17.0.15-sha512-aes256": ("17.0.15", keys("SHA512AndAES_256"), "keys"),
    "jdk17.0.15-mac-sha1": ("17.0.15", mac("HmacPBESHA1"), "keys"),
    "jdk17.0.15-mac-sha224": ("17.0.15", mac("HmacPBESHA224"), "keys"),
    "jdk17.0.15-mac-sha256": ("17.0.15", mac("HmacPBESHA256"), "keys"),
    "jdk17.0.15-mac-sha384": ("17.0.15", mac("HmacPBESHA384"), "keys"),
    "jdk17.0.15-mac-sha512": ("17.0.15", mac("HmacPBESHA512"), "keys"),
    "jdk17.0.15-mac-none": ("17.0.15", mac("NONE"), "keys"),
    "jdk17.0.15-certs-plain": ("17.0.15", variant(certProtectionAlgorithm="NONE"), "mixed"),
}
NAMES = {
    "1.2.840.113549.1.5.13": "PBES2",
    "1.2.840.113549.1.12.1.3": "PBE-SHA1-3DES",
    "1.2.840.113549.1.12.1.6": "PBE-SHA1-RC2-40",
    "1.2.840.113549.2.7": "hmacWithSHA1",
    "1.2.840.113549.2.8": "hmacWithSHA224",
    "1.2.840.113549.2.9": "hmacWithSHA256",
    "1.2.840.113549.2.10": "hmacWithSHA384",
    "1.2.840.113549.2.11": "hmacWithSHA512",
    "2.16.840.1.101.3.4.1.2": "aes128-CBC",
    "2.16.840.1.101.3.4.1.42": "aes256-CBC",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "1.2.840.113549.1.7.1": "data",
    "1.2.840.113549.1.7.6": "encryptedData",
}
SEQUENCE, LONG = 0x30, 0x80
KEY_BAG = "1.2.840.113549.1.12.10.1.2"
FRIENDLY_NAME, LOCAL_KEY_ID = "1.2.840.113549.1.9.20", "1.2.840.113549.1.9.21"


@dataclass
class Node:
    """One DER element and what is inside it."""

    tag: int
    value: bytes

    def __getitem__(self, index: int) -> Node:
        """Return one of the elements inside (an OCTET STRING may hold one, too)."""
        return nodes(self.value)[index]

    @property
    def number(self) -> int:
        """The value of an INTEGER."""
        return int.from_bytes(self.value, "big")

    @property
    def oid(self) -> str:
        """The dotted text of an OBJECT IDENTIFIER."""
        arcs, arc = [], 0
        for byte in self.value:
            arc = arc << 7 | byte & 0x7F
            if byte < LONG:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    @property
    def name(self) -> str:
        """The name of an OBJECT IDENTIFIER."""
        return NAMES[self.oid]


def nodes(data: bytes) -> list[Node]:
    """Split DER elements in a row."""
    found = []
    while data:
        tag, length, start = data[0], data[1], 2
        if length > LONG:
            start += length - LONG
            length = int.from_bytes(data[2:start], "big")
        found.append(Node(tag, data[start : start + length]))
        data = data[start + length :]
    return found


def algorithm(identifier: Node) -> dict[str, Any]:
    """Describe the AlgorithmIdentifier of an encryption."""
    name, parameters = identifier[0].name, identifier[1]
    if name != "PBES2":
        return {"algorithm": name, "iterations": parameters[1].number}
    kdf, cipher = parameters[0][1], parameters[1]
    return {
        "algorithm": name,
        "prf": next(node[0].name for node in nodes(kdf.value)[2:] if node.tag == SEQUENCE),
        "cipher": cipher[0].name,
        "iterations": kdf[1].number,
    }


def bag_facts(bag: Node) -> tuple[str, dict[str, Any]]:
    """Return a bag's alias, and the algorithm and custom attributes of its entry."""
    value = bag[1][0] if bag[0].oid == KEY_BAG else bag[1][0][1][0][0]
    alias, custom = "", []
    for attribute in nodes(bag[2].value):
        if attribute[0].oid == FRIENDLY_NAME:
            alias = attribute[1][0].value.decode("utf-16-be")
        elif attribute[0].oid != LOCAL_KEY_ID:
            custom.append([attribute[0].oid, attribute[1][0].value.decode()])
    facts = algorithm(value[0])
    return alias, facts | ({"attributes": custom} if custom else {})


def structure(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what the DER of a file says: about the file, and about its entries by alias."""
    pfx = nodes(file.read_bytes())[0]
    contents = nodes(pfx[1][1][0][0].value)
    facts: dict[str, Any] = {"mac": None, "contents": []}
    for content in contents:
        encrypted = content[0].name == "encryptedData"
        kind = algorithm(content[1][0][1][1]) if encrypted else None
        facts["contents"].append({"type": content[0].name, "encryption": kind})
    for data in nodes(pfx.value)[2:]:
        facts["mac"] = {"hash": data[0][0][0].name, "iterations": data[2].number}
    bags = nodes(contents[0][1][0][0].value)
    return facts, dict(bag_facts(bag) for bag in bags)


def entry(row: list[str], facts: dict[str, Any]) -> dict[str, Any]:
    """Describe one entry from Java's listing."""
    alias, created, value = row
    if value == "certificate":  # Java makes up a date for these
        return {"alias": alias, "kind": value, "created": None}
    found: dict[str, Any] = {"alias": alias, "kind": "secret", "created": int(created)}
    if value == "private-key":
        found["kind"] = value
    else:
        found["value" if alias.startswith("api_key:") else "hex"] = value
    return found | facts


def as_text(expected: dict[str, dict[str, Any]]) -> str:
    """Write JSON with a line for each entry."""
    files = []
    for name, facts in expected.items():
        head = json.dumps({name: {key: facts[key] for key in facts if key != "entries"}})[1:-2]
        lines = ",\n  ".join(json.dumps(entry) for entry in facts["entries"])
        files.append(f'{head}, "entries": [\n  {lines}]}}')
    return "{" + ",\n ".join(files) + "}\n"


def main() -> None:
    """Write every file with the runtime that its name says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtimes", nargs="+", metavar="VERSION=JAVA")
    runtimes = dict(text.split("=", 1) for text in parser.parse_args().runtimes)
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        classes = compile_stock(Path(folder))
        source = str(HERE / "WriteVectors.java")
        javac = ["javac", "--release", "8", "-Xlint:-options", "-d", folder, source]
        subprocess.run(javac, check=True)
        for name, (runtime, options, kind) in FILES.items():
            file, java = HERE / f"{name}.p12", runtimes[runtime]
            if kind == "add":
                file.write_bytes((HERE / "legacy-2021.p12").read_bytes())
            command = [java, *options, "-cp", folder, "WriteVectors", kind, str(file)]
            subprocess.run([*command, str(HERE / "identity.p12")], check=True)
            with Stock(classes, java, options) as stock:
                if stock.ask("version") != [runtime]:
                    raise SystemExit(f"{java} is not {runtime}")
                rows = stock.rows("list", file)
            of_file, of_entries = structure(file)
            entries = [entry(row, of_entries.get(row[0], {})) for row in rows]
            about = {"runtime": runtime, "options": options}
            expected[file.name] = about | of_file | {"entries": entries}
    (HERE / "expected.json").write_text(as_text(expected), encoding="utf-8")


if __name__ == "__main__":
    main()

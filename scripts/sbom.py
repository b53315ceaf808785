#!/usr/bin/env python3
"""Writes the bill of materials of the two programs to standard output: CycloneDX 1.5, JSON.

It names every package that is linked into them or takes part in building them, as cargo resolved it, with the hash in Cargo.lock.
The same source gives the same bytes.
"""

import json
import os
import subprocess
import tomllib
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["mcr-cli", "mcr-netd"]


def metadata():
    with open(ROOT / "deny.toml", "rb") as file:
        targets = tomllib.load(file)["graph"]["targets"]
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version", "1", "--locked"]
    for target in targets:
        command += ["--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def checksums():
    with open(ROOT / "Cargo.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    return {(package["name"], package["version"]): package.get("checksum") for package in packages}


def needed(nodes, roots):
    """The packages that are reached without going through what only tests use, each with those that it needs itself."""
    found, ahead = {}, list(roots)
    while ahead:
        package = ahead.pop()
        if package in found:
            continue
        kinds = nodes[package]["deps"]
        found[package] = sorted(dep["pkg"] for dep in kinds if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]))
        ahead += found[package]
    return found


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksum):
    licence = (package["license"] or "NOASSERTION").replace("/", " OR ")
    described = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
        "licenses": [{"expression": licence}],
    }
    if checksum:
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


def main():
    resolved, hashes = metadata(), checksums()
    packages = {package["id"]: package for package in resolved["packages"]}
    nodes = {node["id"]: node for node in resolved["resolve"]["nodes"]}
    roots = [id for id, package in packages.items() if package["name"] in PROGRAMS and package["source"] is None]
    found = sorted(needed(nodes, roots).items(), key=lambda item: reference(packages[item[0]]))
    components = []
    for id, _ in found:
        package = packages[id]
        components.append(component(package, hashes[(package["name"], package["version"])]))
    version = next(packages[id]["version"] for id in roots)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "mcr", "name": "mcr", "version": version}},
        "components": components,
        "dependencies": [{"ref": "mcr", "dependsOn": sorted(reference(packages[id]) for id in roots)}]
        + [{"ref": reference(packages[id]), "dependsOn": [reference(packages[dep]) for dep in deps]} for id, deps in found],
    }
    print(json.dumps(bill, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()

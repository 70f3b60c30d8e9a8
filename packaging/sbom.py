#!/usr/bin/env python3
"""Writes the bill of materials of a program that cargo-auditable built.

    packaging/sbom.py PROGRAM SBOM LICENSES

reads the list of crates in PROGRAM, writes SBOM in the format CycloneDX, and the license texts of the crates to LICENSES.
"""

import datetime
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import uuid
import zlib


def embedded_crates(program):
    """Returns the content of the section `.dep-v0` of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", program, 40)
    size, count, names = struct.unpack_from("<HHH", program, 58)
    sections = [struct.unpack_from("<IIQQQQ", program, table + size * index) for index in range(count)]
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        if program[start : program.index(b"\0", start)] == b".dep-v0":
            return json.loads(zlib.decompress(program[offset : offset + length]))["packages"]
    sys.exit("sbom: the program was built without cargo-auditable")


def bill_of_materials(program, crates, metadata):
    def reference(crate):
        return f"pkg:cargo/{crate['name']}@{crate['version']}".replace("+", "%2B")

    def scope(crate):
        # Crates that only run while the program is compiled, such as build scripts, are not in the program. A crate such as
        # openssl-src compiles the library that it contains, and that is in the program.
        is_build_only = crate.get("kind") == "build" and not crate["name"].endswith("-src")
        return "excluded" if is_build_only else "required"

    def component(crate):
        expression = metadata[crate["name"], crate["version"]]["license"].replace("/", " OR ")
        described = {"bom-ref": reference(crate), "name": crate["name"], "version": crate["version"]}
        return described | {"purl": reference(crate), "licenses": [{"expression": expression}]}

    (root,) = [crate for crate in crates if crate.get("root")]
    digest = hashlib.sha256(program)
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    hashes = [{"alg": "SHA-256", "content": digest.hexdigest()}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.UUID(bytes=digest.digest()[:16], version=4).urn,
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application"} | component(root) | {"hashes": hashes},
        },
        "components": [
            {"type": "library", "scope": scope(crate)} | component(crate)
            for crate in crates
            if crate is not root
        ],
        "dependencies": [
            {"ref": reference(crate), "dependsOn": [reference(crates[one]) for one in crate.get("dependencies", [])]}
            for crate in crates
        ],
    }


def license_texts(crates, metadata):
    """Returns each text once, after the names of its crates. Vendored C libraries are in folders of their crates."""
    texts = {}
    for crate in crates:
        folder = pathlib.Path(metadata[crate["name"], crate["version"]]["manifest_path"]).parent
        patterns = (f"{below}{name}*" for below in ("", "*/", "*/*/") for name in ("LICEN[CS]E", "COPYING", "NOTICE"))
        for path in sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file()):
            text = path.read_text(errors="replace").strip()
            texts.setdefault(text, []).append(f"{crate['name']} {crate['version']}: {path.relative_to(folder)}")
    return "\n\n".join("\n".join([*names, "", text, "", "=" * 80]) for text, names in texts.items())


def main(program, sbom, licenses):
    content = pathlib.Path(program).read_bytes()
    crates = embedded_crates(content)
    output = subprocess.run(["cargo", "metadata", "--locked", "--all-features", "--format-version=1"], check=True, stdout=subprocess.PIPE)
    metadata = {(crate["name"], crate["version"]): crate for crate in json.loads(output.stdout)["packages"]}
    described = json.dumps(bill_of_materials(content, crates, metadata), indent=2)
    pathlib.Path(sbom).write_text(described + "\n")
    pathlib.Path(licenses).write_text(license_texts([c for c in crates if not c.get("root")], metadata))


main(*sys.argv[1:])

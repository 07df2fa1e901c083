"""Audit of what Paceline installs: licences, a bill of materials, and known faults where the service answers. ``make audit``.

Run by the Python of .venv, standard library only. pip-audit, in an environment of its own, asks for known faults and writes
build/sbom.json (CycloneDX). Status 1 for a finding that ``EXPLAINED`` does not explain.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ALLOWED = re.compile(
    r"(?i)\b(mit|bsd|apache|isc|psf|python software foundation|mozilla|mpl|unlicense|public domain|zlib|cnri|0bsd|expat|hpnd)\b"
)
"""Licences that allow use and distribution with this project, by words of their names."""
EXPLAINED = {
    "asyncssh": "EPL-2.0 or GPL-2.0-or-later at the user's choice: imported unchanged, not a part of this project's files",
    "nvidia-": "NVIDIA's licence: libraries that torch brings, installed from their own packages and not distributed here",
    "peewee": "MIT by its LICENSE file; the metadata names none",
    "pyte": "LGPL-3.0: imported by tests only, unchanged, not distributed here",
    "cuda-": "NVIDIA's licence: libraries that torch brings, installed from their own packages and not distributed here",
}
"""Packages, by the start of their names, whose licence is another one, and why that is in order."""
EXPLAINED_FAULTS: dict[str, str] = {}
"""Known faults, by their id, that do not concern this project, and why."""
EXTRAS = ("training", "data", "hub", "scripts", "reports", "search", "kubernetes", "manifests", "dev")


def main() -> int:
    """Audit and print; returns the exit status."""
    packages = installed("paceline", set(EXTRAS))
    wrong = [line for package in packages.values() if (line := licence_finding(package))]
    print(f"licences: {len(packages)} packages, {len(wrong)} findings")
    print("".join(f"  {line}\n" for line in wrong), end="")
    faults = known_faults(Path("build"))
    if faults is None:
        print("known faults: the service does not answer: not checked")
        return bool(wrong)
    print(f"known faults: {len(faults)} findings; bill of materials: build/sbom.json")
    print("".join(f"  {fault}\n" for fault in faults), end="")
    return bool(wrong or faults)


def installed(name: str, extras: set[str]) -> dict[str, Distribution]:
    """The package and everything that it requires here, by normalized name."""
    found: dict[str, Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:  # required on other systems only
            continue
        for requirement in found[key].requires or ():
            match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement)
            extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", requirement)
            if match and (extra is None or extra[1] in extras):
                waiting.append((match[1], set((match[2] or "").replace(" ", "").split(","))))
    return found


def licence_finding(package: Distribution) -> str:
    """What is wrong with the licence of a package; empty: nothing, or it is explained."""
    metadata = package.metadata
    name, expression = metadata["Name"], metadata.get("License-Expression") or ""
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith("License")]
    text = " ".join([expression, *classifiers]).strip() or (metadata.get("License") or "")[:200]
    if ALLOWED.search(text) and not re.search(r"(?i)\bA?GPL", text):
        return ""
    if any(name.lower().replace("_", "-").startswith(start) for start in EXPLAINED):
        return ""
    return f"{name} {package.version}: {text.strip()[:80] or 'names no licence'}"


def known_faults(build: Path) -> list[str] | None:
    """Known faults that are not explained, asked of PyPI by pip-audit, which writes the bill of materials; None: no answer."""
    program, sbom = build / "audit" / "bin" / "pip-audit", build / "sbom.json"
    sbom.unlink(missing_ok=True)
    site = sysconfig.get_path("purelib")
    command = [str(program), "--progress-spinner=off", "--path", site, "-f", "cyclonedx-json", "-o", str(sbom)]
    try:
        subprocess.run(command, check=False, timeout=600)
        document = json.loads(sbom.read_bytes())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    names = {part.get("bom-ref"): f"{part.get('name')} {part.get('version')}" for part in document.get("components", ())}
    findings = []
    for fault in document.get("vulnerabilities", ()):
        concerned = ", ".join(names.get(part.get("ref"), str(part.get("ref"))) for part in fault.get("affects", ()))
        if fault.get("id") not in EXPLAINED_FAULTS:
            findings.append(f"{fault.get('id')} in {concerned}")
    return findings


if __name__ == "__main__":
    sys.exit(main())

"""Fill ``static/vendor/`` from exact versions of npm packages, and record where everything came from.

    python scripts/vendor_assets.py            # fetch with the npm client and write
    python scripts/vendor_assets.py --check    # compare the files with SHA256SUMS, fetch nothing

Nothing in the portal is loaded from another host, so every asset is a file of this repository. Three changes are made to them:
``sourceMappingURL`` lines go (the maps are not shipped, and the manifest storage refuses a reference to a missing file), and the
style rules that plotly and cytoscape would write into the page by script become files, because the content security policy
allows no inline style. To upgrade: change a version here, run the script, look at the pages, commit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "static" / "vendor"


@dataclass(frozen=True)
class Package:
    """An npm package: which of its files are kept (all flat in one folder), and its licence in SPDX terms."""

    npm: str
    version: str
    folder: str
    files: tuple[str, ...]
    licence: str
    note: str = ""


PACKAGES = (
    Package(
        "bootstrap",
        "5.3.9",
        "bootstrap",
        ("dist/css/bootstrap.min.css",),
        "MIT",
    ),
    Package("htmx.org", "2.0.11", "htmx", ("dist/htmx.min.js",), "0BSD"),
    Package("plotly.js-basic-dist-min", "4.1.1", "plotly-basic", ("plotly-basic.min.js",), "MIT"),
    Package("cytoscape", "3.34.4", "cytoscape", ("dist/cytoscape.min.js",), "MIT"),
    Package(
        "cytoscape-dagre",
        "4.0.1",
        "cytoscape-dagre",
        ("dist/cytoscape-dagre.min.js",),
        "MIT",
        "The file contains dagre (MIT).",
    ),
)

SOURCE_MAP = re.compile(r"^\s*(?://|/\*)[#@] sourceMappingURL=.*$\n?", re.MULTILINE)


def fetch(package: Package, folder: Path) -> Path:
    """The unpacked package, fetched by ``npm pack`` from whichever registry npm is configured for."""
    folder.mkdir(parents=True)
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm was not found. Install Node.js, or use --check, which needs no npm.")
    name = f"{package.npm}@{package.version}"
    done = subprocess.run([npm, "pack", "--silent", name], cwd=folder, capture_output=True, text=True)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"npm could not fetch {name}:\n{done.stderr.strip()}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / "package"
    told = json.loads((unpacked / "package.json").read_text())
    if (told["name"], told["version"]) != (package.npm, package.version):
        sys.exit(f"npm delivered {told['name']} {told['version']} instead of {name}.")
    return unpacked


def without_source_map(text: str) -> str:
    return SOURCE_MAP.sub("", text)


def plotly_rules(script: str) -> str:
    """The global rules of plotly as a stylesheet, read out of the script that would insert them.

    Each rule is inserted before the ones that are there, so the last of the table is the first of the sheet.
    """
    found = re.search(r'\{"X,X div":.*?\};for\(', script, re.DOTALL)
    if found is None:
        sys.exit("The rules of plotly were not found in its script; look how this version writes them.")
    literal = found.group(0).removesuffix(";for(")
    literal = re.sub(r"'([^']*)'", lambda match: json.dumps(match.group(1)), literal)
    literal = re.sub(r"([{,])([A-Za-z]+):(?=\")", r'\1"\2":', literal)
    rules = json.loads(literal)
    lines = [
        "/* Made from plotly.js by scripts/vendor_assets.py: the content security policy forbids inserted rules. */"
    ]
    for selector, body in reversed(rules.items()):
        selector = re.sub("^,", " ,", selector).replace("X", ".js-plotly-plot .plotly").replace("Y", ".plotly-notifier")
        lines.append(f"{selector} {{ {body} }}")
    return "\n".join(lines) + "\n"


def cytoscape_rules(script: str) -> str:
    """The one rule of cytoscape, after checking that its script still inserts this one and no other."""
    name = re.search(r'"(__________cytoscape_container)"', script)
    rule = re.search(r'textContent="\."\+\w+\+"( \{ position: relative; \})"', script)
    if name is None or rule is None:
        sys.exit("The rule of cytoscape was not found in its script; look how this version writes it.")
    comment = (
        "/* Made from cytoscape.js by scripts/vendor_assets.py: the content security policy forbids inserted rules. */"
    )
    return f"{comment}\n.{name.group(1)}{rule.group(1)}\n"


EXTRACTED = {
    "plotly-basic": ("plotly-basic.min.js", "plotly.css", plotly_rules),
    "cytoscape": ("cytoscape.min.js", "cytoscape.css", cytoscape_rules),
}


def vendor(package: Package, unpacked: Path, target: Path) -> str:
    """Write one package's files into ``target`` and return its entry for LICENSES."""
    folder = target / f"{package.folder}-{package.version}"
    folder.mkdir(parents=True)
    for name in package.files:
        text = (unpacked / name).read_text(encoding="utf-8")
        (folder / Path(name).name).write_text(without_source_map(text), encoding="utf-8")
    if package.folder in EXTRACTED:
        source, name, extract = EXTRACTED[package.folder]
        (folder / name).write_text(extract((folder / source).read_text(encoding="utf-8")), encoding="utf-8")
    licence = (unpacked / "LICENSE").read_text(encoding="utf-8").strip()
    title = f"{package.npm} {package.version} ({package.licence})"
    return "\n".join(part for part in (title, "=" * len(title), package.note, "", licence, "", "") if part is not None)


def sums(folder: Path) -> str:
    """SHA-256 of every file below ``folder`` but the list itself, in the format of ``sha256sum``."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "SHA256SUMS":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def build() -> None:
    """Make the whole folder anew beside the old one, then put it in its place."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        made = work / "vendor"
        licences = [vendor(p, fetch(p, work / p.folder), made) for p in PACKAGES]
        (made / "LICENSES").write_text("\n".join(licences), encoding="utf-8")
        (made / "SHA256SUMS").write_text(sums(made), encoding="utf-8")
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(made, VENDOR)
    print(f"{sum(1 for path in VENDOR.rglob('*') if path.is_file())} files in {VENDOR}")


def check() -> int:
    if sums(VENDOR) != (VENDOR / "SHA256SUMS").read_text(encoding="utf-8"):
        print("static/vendor differs from its SHA256SUMS.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the files with SHA256SUMS and fetch nothing")
    if parser.parse_args().check:
        raise SystemExit(check())
    build()

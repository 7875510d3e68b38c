"""Make hitmesh/site/static/count.js of its source. The script before is kept, if a release had it: pages name it by its hash."""

from __future__ import annotations

import shutil

import minify

from hitmesh.site.script import CURRENT, FOLDER, name_of

SOURCE = FOLDER / "count.source.js"


def minified() -> bytes:
    """What `count.js` has to be."""
    script: str = minify.string("application/javascript", SOURCE.read_text())
    return script.encode()


def main() -> None:
    """Write it."""
    file = FOLDER / CURRENT
    if file.exists() and file.read_bytes() != minified():
        earlier = FOLDER / "earlier" / name_of(file.read_bytes())
        shutil.copyfile(file, earlier)
        print(f"kept {earlier}; delete it if no release had it")
    file.write_bytes(minified())
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""The hot modules as mypyc has compiled them, in place of the same sources interpreted.

`scripts/compile.py` writes them into a folder of their own with a manifest of the sources that they were made of. They
are used while each of those is as it was then: all of them or none, since they know each other's insides. So an edited
source is what runs, at once, and nothing compiled shadows it. A release's wheel holds both, made together.

Imported before gevent has patched: nothing may be imported here that holds a lock or a socket.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec

SWITCH = "HITMESH_COMPILED"  # 0: interpreted, whatever is compiled
EXTENSIONS = "hitmesh/extensions"  # below the folder that the packages are in
MANIFEST = "manifest"
GROUP = "hitmesh__mypyc"  # the extension module that has the code of all others
SUFFIX = EXTENSION_SUFFIXES[0]  # of this Python's, on this platform

COMPILED = "compiled"  # of modules, and of a source in the manifest
READ = "read"
END = "end"  # the manifest's last line
INTERPRETED = "interpreted"


def digest(source: bytes) -> str:
    """Of a source: another one is another source."""
    from hashlib import sha256

    return sha256(source).hexdigest()


class Manifest:
    """What was compiled, for which Python and by what. As a text: the extension modules' suffix, the compiler, then a
    line for each source: COMPILED or READ, its digest, its path; and END. Of what was only read there are constants in
    the compiled code.
    """

    def __init__(self, suffix: str, maker: str, sources: dict[str, tuple[str, str]]) -> None:
        """`sources`: path below the root: COMPILED or READ, and its digest."""
        self.suffix = suffix
        self.maker = maker
        self.sources = sources

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Raises ValueError."""
        suffix, maker, *lines, end = text.splitlines()
        if end != END:
            raise ValueError("it is cut")
        sources = {}
        for line in lines:
            use, made_of, path = line.split(" ", 2)
            sources[path] = use, made_of
        return cls(suffix, maker, sources)

    def __str__(self) -> str:
        lines = [f"{use} {made_of} {path}\n" for path, (use, made_of) in sorted(self.sources.items())]
        return f"{self.suffix}\n{self.maker}\n{''.join(lines)}{END}\n"

    def modules(self) -> list[str]:
        """Names of those that are compiled."""
        paths = [path for path, (use, _) in self.sources.items() if use == COMPILED]
        return [path.removesuffix(".py").replace("/", ".") for path in paths]

    def misfit(self, root: str) -> str:
        """Why this doesn't go with the sources below `root` and this Python; empty when it does."""
        if self.suffix != SUFFIX:
            return f"it was compiled as {self.suffix}, and this Python takes {SUFFIX}"
        for path, (_, made_of) in self.sources.items():
            try:
                with open(os.path.join(root, path), "rb") as source:
                    is_same = digest(source.read()) == made_of
            except OSError:
                is_same = False
            if not is_same:
                return f"{path} has changed since it was compiled"
        return ""


class Finder:
    """Finds the compiled modules below a root, all of them or none; decides when the first one is asked for."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._why: str | None = None  # nothing compiled is used; empty when it is, None before that is decided
        self._manifest: Manifest | None = None
        try:
            with open(os.path.join(root, EXTENSIONS, MANIFEST), encoding="utf-8") as text:
                self._manifest = Manifest.parse(text.read())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._why = f"{EXTENSIONS}/{MANIFEST} can't be read: {error}"
        self._modules = frozenset(self._manifest.modules() if self._manifest else ())

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Python's question to each finder: where a module is that is about to be imported."""
        del path, target
        if name == GROUP or (name in self._modules and not self.why()):  # GROUP: that is how it is decided
            return self._spec(name)
        return None

    def why(self) -> str | None:
        """Why the sources are interpreted: empty when they aren't, None when nothing was compiled."""
        if self._why is None and self._manifest is not None:
            self._why = self._decided(self._manifest)
        return self._why

    def _decided(self, manifest: Manifest) -> str:
        if os.environ.get(SWITCH) == "0":
            return f"{SWITCH}=0"
        if misfit := manifest.misfit(self._root):
            return misfit
        try:
            __import__(GROUP)  # now, when it can still be done without: another system's C library is too old, perhaps
        except ImportError as error:
            return str(error)
        return ""

    def _spec(self, name: str) -> ModuleSpec | None:
        folder = os.path.join(self._root, EXTENSIONS, *name.split(".")[:-1])
        return FileFinder(folder, (ExtensionFileLoader, [SUFFIX])).find_spec(name)


_finder = Finder(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def install() -> None:
    """Have this process's imports find what is compiled."""
    sys.meta_path.insert(0, _finder)


def is_compiled() -> bool:
    """Whether this process's hot modules are compiled."""
    return _finder.why() == ""


def in_words() -> str:
    """COMPILED, or INTERPRETED and why."""
    why = _finder.why()
    return f"{INTERPRETED}: {why}" if why else INTERPRETED if why is None else COMPILED


def trouble() -> str:
    """Why what was compiled isn't used, unless somebody has said so; empty when all is well."""
    why = _finder.why()
    return "" if why is None or why == f"{SWITCH}=0" else why

"""All is in setup.cfg but for this: a wheel with compiled modules is one for this Python and this platform."""

from pathlib import Path

from setuptools import Distribution, setup


class Packages(Distribution):
    """Ours, and what scripts/compile.py has made of them."""

    def has_ext_modules(self) -> bool:
        return Path("hitmesh/extensions/manifest").is_file()


setup(distclass=Packages)

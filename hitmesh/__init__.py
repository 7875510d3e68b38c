"""hitmesh: a page-hit counter for web sites served from several datacenters."""

from hitmesh import compiled

__version__ = "0.3.0"

compiled.install()

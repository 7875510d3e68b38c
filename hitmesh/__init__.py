"""hitmesh: a page-hit counter for web sites served from several datacenters."""

__version__ = "0.3.0"

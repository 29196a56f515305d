"""Where this package lies, and the checkout around it if there is one."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The package's folder: `exporter` in a checkout, `cifar_export` where it is installed."""

CHECKOUT = PACKAGE.parent
"""The checkout's top, or what else the package lies in (`site-packages`): look for a file in it before you use it."""

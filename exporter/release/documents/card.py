"""The model card, README.md: YAML header and Markdown as model hubs read them.

The header is the hub's own specification: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...formats import FORMATS, ONE_IMAGE
from ...networks.interval import wilson
from ...networks.zoo import DATASETS, IMAGE_SIZE
from ...runtimes import spec_of
from ..contents import title_of
from ..layout import FULL, FURTHER, beside_further, further_file

TEMPLATE = "card.md.j2"
LICENSE = "bsd-3-clause"  # as the hub spells the one in LICENSE
_GOLDEN_IMAGES = 8
_CONDITIONS = ("hardware", "precision", "seconds")
_PLAN = ("plan", "runs_evaluated")
_PURPOSES = {  # file name: what it is for
    "model.onnx": "ONNX, normalized input",
    "model-uint8.onnx": "ONNX, pixels as they are",
    "model-float16.onnx": "the same with weights and arithmetic in float16",
    "model-int8.onnx": "the same with weights and arithmetic in int8",
    "model.torchscript.pt": "TorchScript, normalized input",
    "model.pt2": "`torch.export`, normalized input",
    **{further_file(name): said for name, said in FURTHER.items()},
    **{file: said for name in FURTHER for file, said in beside_further(name).items()},
}


def render_card(config: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    """The card of the network that `config` (`config.json`) and `parity` (`parity.json`) describe.

    Says what they say and nothing else, so that its bytes depend on theirs.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701  Markdown from our own documents
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": "{:.2f}".format,
        "fraction": lambda percent: f"{percent / 100:.6g}",
        "markdown": lambda text: re.sub(r"([\\`*_{}\[\]()#!|<>~&$])", r"\\\1", text),
        "thousands": "{:,}".format,
        "plain": lambda value: {True: "yes", False: "no"}[value] if isinstance(value, bool) else value,
    }
    accuracy, origin = config["accuracy"], config["weights"].get("origin")
    top1 = accuracy["top1"]
    card: str = environment.get_template(TEMPLATE).render(
        config=config,
        parity=parity,
        accuracy=accuracy,
        dataset=DATASETS.get(config["dataset"]),
        title=title_of(config["dataset"]),
        depth=config["model"].removeprefix("resnet"),
        license=_license(origin) if origin else LICENSE,
        origin=origin,
        # what an index of another time may not have said is not said here either
        recipe={"ema_decay": 0.0, "average_from": 1.0, "prune": 0.0, "distill": 0.0} | config["weights"]["recipe"],
        training=dict.fromkeys(("initial", "earlier_runs", "teachers", "parts", *_CONDITIONS, *_PLAN))
        | config["weights"]["training"],
        interval=wilson(top1, accuracy["images"]) if accuracy["images"] else None,
        difference=top1 - accuracy["reference"]["top1"] if accuracy["reference"] else None,
        models=[*config["models"], *(file for found in config["further"].values() for file in found["beside"])],
        purposes=_PURPOSES,
        golden={file: golden["folder"] for file, golden in config["golden"].items()},
        vectors={
            folder: [file for file, held in config["golden"].items() if held["folder"] == folder]
            for folder in sorted({held["folder"] for held in config["golden"].values()})
        },
        reduced=config["reduced"],
        further=config["further"],
        atol={file: held["atol"] for file, held in config["golden"].items()},
        formats={name: FORMATS[name].title for name in config["further"]},
        runtimes={found["runtime"]: spec_of(found["runtime"]).title for found in config["further"].values()},
        single=[found["file"] for name, found in config["further"].items() if FORMATS[name].batch == ONE_IMAGE],
        coded=[found["file"] for name, found in config["further"].items() if FORMATS[name].code],
        full=FULL,
        images=_GOLDEN_IMAGES,
        side=IMAGE_SIZE,
        classes=len(config["labels"]),
        parity_images=sum(some["images"] for some in parity["image_sets"].values()),
    )
    return card


def _license(origin: dict[str, Any]) -> str:
    """The license of somebody's weights as the hub spells it: lower case; it knows no expressions."""
    stated = origin["license"]
    if stated is None:
        return "unknown"
    return "other" if " " in stated else str(stated).lower()

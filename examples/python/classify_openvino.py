"""Classify pictures with a uint8 ONNX file, OpenVINO and Pillow: classify_openvino.py MODEL.onnx PICTURE..."""

import json
import sys
from pathlib import Path

try:
    import numpy as np
    import openvino as ov
    from PIL import Image
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: pip install openvino pillow")
if len(sys.argv) < 3:
    print("error: usage: classify_openvino.py MODEL.onnx PICTURE...", file=sys.stderr)
    sys.exit(2)

# f32: on processors that have bfloat16, OpenVINO would compute with that, and be off by 0.1
model = ov.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
size = model.input(0).partial_shape[0]
batch = size.get_length() if size.is_static else 1  # static where the file takes that batch alone
labels = json.loads(Path(f"{sys.argv[1]}.json").read_text())["labels"]
for path in sys.argv[2:]:
    pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BOX))
    logits = model(np.repeat(pixels[np.newaxis], batch, axis=0))["logits"][0]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    print(path)
    for i in np.argsort(-logits)[:5]:
        print(f"  {labels[i]:<14} {probabilities[i]:.6f}  {logits[i]:.9g}")

"""Classify pictures with a uint8 ONNX file, ONNX Runtime and Pillow: classify_onnxruntime.py MODEL.onnx PICTURE..."""

import json
import os
import sys

# ONNX Runtime keeps a device id and a database of events in the user's cache, unless this is set before its import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import numpy as np
    import onnxruntime as ort
    from PIL import Image
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: pip install onnxruntime pillow")
if len(sys.argv) < 3:
    print("error: usage: classify_onnxruntime.py MODEL.onnx PICTURE...", file=sys.stderr)
    sys.exit(2)

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
batch = session.get_inputs()[0].shape[0]
batch = batch if isinstance(batch, int) else 1  # a number where the file takes that batch alone
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
for path in sys.argv[2:]:
    pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BOX))
    logits = session.run(["logits"], {"image": np.repeat(pixels[np.newaxis], batch, axis=0)})[0][0]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    print(path)
    for i in np.argsort(-logits)[:5]:
        print(f"  {labels[i]:<14} {probabilities[i]:.6f}  {logits[i]:.9g}")

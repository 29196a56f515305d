"""Every runtime gets its row."""

from cifar_export.gate.check import check
from cifar_export.gate.inputs import bundled_images


def test_a_crashing_runtime_is_a_row_not_the_end(weights20, exported, monkeypatch):
    from cifar_export.runtimes import torchscript

    files = {"onnx": exported("onnx", "uint8", 17).path, "torchscript": exported("torchscript", "uint8").path}

    def crash(self, images):
        raise RuntimeError("out of cheese\nand more")

    monkeypatch.setattr(torchscript.TorchScript, "logits", crash)
    report = check(weights20, "uint8", files, ["torchscript", "onnxruntime-cpu"], {"real": bundled_images()[:8]})
    crashed, other = report.runtimes
    assert (crashed.state, crashed.reason) == ("failed", "crashed: RuntimeError: out of cheese")
    assert other.state == "passed"
    assert not report.passed

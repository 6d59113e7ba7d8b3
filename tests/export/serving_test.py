"""An exported model behind LitServe, an HTTP server, gives the answers of Keras."""

import contextlib
import json
import socket
import sys
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest

from keras_elu import system
from keras_elu.export import __main__ as command

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
for module in ("litserve", "onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(module)

# TensorFlow Serving is not on PyPI. LitServe is, and serves any Python function.
SERVER = """
import sys
import litserve
import numpy
import onnxruntime

class Digits(litserve.LitAPI):
    def setup(self, device):
        self.session = onnxruntime.InferenceSession(sys.argv[1])

    def decode_request(self, request):
        return numpy.array(request["pixels"], "float32")

    def predict(self, pixels):
        (entry,) = self.session.get_inputs()
        return self.session.run(None, {entry.name: pixels})[0]

    def encode_response(self, logits):
        return {"logits": logits.tolist()}

if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
"""


@pytest.fixture
def url(digits_run, tmp_path):
    """The address of a server with the exported digits."""
    assert command.main([str(digits_run), str(tmp_path / "a.onnx"), "--to", "onnx"]) == 0
    (tmp_path / "server.py").write_text(SERVER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = system.start([sys.executable, "server.py", "a.onnx", str(port)], cwd=tmp_path)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stdin.close()  # ends the workers of the server, too
        server.wait()


def answered(url, body):
    """The answer of the server, which may still be starting."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    end = time.monotonic() + 120
    while True:
        with contextlib.suppress(urllib.error.URLError):
            return json.load(urllib.request.urlopen(request, timeout=60))
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_server_gives_the_answers_of_keras(url, digits_run):
    model = keras.saving.load_model(digits_run / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1))
    body = json.dumps({"pixels": pixels.tolist()}).encode()
    logits = np.array(answered(f"{url}/predict", body)["logits"])
    expected = model.predict(pixels.astype("float32"), verbose=0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)

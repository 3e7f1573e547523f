"""The local model server and a client, on TensorFlow Serving's interface."""

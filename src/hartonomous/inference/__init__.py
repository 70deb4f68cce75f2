"""Encoders: what turns texts and pictures into vectors, on onnxruntime."""

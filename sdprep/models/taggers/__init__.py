"""Taggers on onnxruntime and TensorFlow, and what describes their inputs and labels. Imports as models."""

"""The encoder in other libraries: ONNX, FAISS, scikit-learn, sentence-transformers."""

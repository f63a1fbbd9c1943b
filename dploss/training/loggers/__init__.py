"""Where a training is logged: TensorBoard, Weights & Biases, MLflow."""

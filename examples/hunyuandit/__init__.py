"""The parts of train_hunyuandit.py: its data, its model, its loss, its checkpoints and their evaluation."""

"""The least that a training configuration asks of ESPnet's trainer, for tests."""

QUICK_TRAINING = {
    "batch_type": "unsorted",
    "max_epoch": 1,
    "keep_nbest_models": 1,
    "best_model_criterion": [["valid", "acc", "max"]],
    "num_att_plot": 0,
    "num_workers": 0,
    "use_matplotlib": False,
    "use_tensorboard": False,
}

"""Trained models in another form: heads become latents (`convert`), files others' (`export`)."""

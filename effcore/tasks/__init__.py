"""Tasks, one file each: data, models, per-example loss, metric, evaluation and view."""

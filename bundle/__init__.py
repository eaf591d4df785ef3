"""Parts that the configs name by `_target_`: files, preprocessing, inference, training, reports."""

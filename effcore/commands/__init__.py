"""The larger commands of ``python -m effcore``, and the options that they share."""

"""The three kinds of policy: selection, update and intensity."""

from effcore.records.deprecation import resolve_old_names

resolve_old_names(__name__)

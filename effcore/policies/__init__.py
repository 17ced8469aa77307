"""The three kinds of policy: selection, update and intensity."""

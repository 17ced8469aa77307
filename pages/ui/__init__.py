"""What pages share: the frame, the settings widgets, the live panel."""

"""Wrong input, made by the thousand: whatever is given, a command succeeds or says why not in one line."""

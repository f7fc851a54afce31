"""Programs for those who work on MESS-AI; none of them is in the wheel."""

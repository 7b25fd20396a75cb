"""How numbers are written: the same in every language, so that a figure can be compared and copied whatever the page speaks."""

"""The embedded data set: playing cards that the program draws itself."""

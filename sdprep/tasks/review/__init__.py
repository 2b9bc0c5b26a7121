"""Looking at the images of a folder with their captions and tags, and changing them, in a session of many runs."""

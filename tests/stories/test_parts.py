"""One sidecar of several authors: the user, a captioner, and two taggers, each with a part of their own."""

CAPTION = {"model": FAKE_CAPTION, "caption_extension": ".txt"}

"""Model descriptions, their files, and one backend per framework. It imports rules and what is below them."""

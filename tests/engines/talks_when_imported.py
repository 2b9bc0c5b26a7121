"""A decoder of a library that talks on stdout, as some do."""

import os

from sdprep.images.decode import decode as decode

print("welcome to this library")
os.write(1, b"\x00\x00\x00\x01 and below Python too\n")

"""The page of `sdprep review`: its server, for this machine alone, and the thumbnails that it shows."""

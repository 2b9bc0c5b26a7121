"""Where a model runs: in worker processes, one per device, or in this process. It imports models, images and below."""

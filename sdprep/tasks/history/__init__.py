"""What earlier runs did, undoing it, and trying again."""

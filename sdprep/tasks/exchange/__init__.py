"""Datasets in and out: exporting them to trainers and formats, and importing texts from files of other tools."""

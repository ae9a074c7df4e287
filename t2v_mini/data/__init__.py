"""Clips on their way in and out: data sets and video files."""

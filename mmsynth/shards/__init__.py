"""Shards: the output folder, in img2dataset's layout, so that every tool that reads its shards reads ours."""

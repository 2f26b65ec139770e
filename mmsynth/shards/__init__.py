"""Shards: the output folder, as img2dataset lays it out, so that everything that reads its shards reads ours."""

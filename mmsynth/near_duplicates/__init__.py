"""Near-duplicates: which rows show or say nearly the same, and which of them stays.

    from mmsynth.near_duplicates.hashes import hashes_of, iter_pairs
    from mmsynth.near_duplicates.groups import group_numbers, who_stays

    groups = group_numbers(len(hashes), iter_pairs(hashes, distance=6))
    stays = who_stays(groups, scores, keys)  # stays[i] == i where row i stays, else the row that stays for it

Every finder (hashes, embeddings, captions) gives pairs of row numbers, [m, 2] with the smaller one first. It gives them
in chunks, so memory is bounded however many pairs there are. Equal values are paired with the first of them and not
with each other, so a thousand copies give 999 pairs, not half a million, and the groups are the same.

Knows arrays and texts. Does not know shards, parquet files or stages.
"""

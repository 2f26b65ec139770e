"""Near-duplicates: which rows show or say nearly the same, and which of them stays.

    from mmsynth.near_duplicates.hashes import hashes_of, iter_pairs
    from mmsynth.near_duplicates.groups import group_numbers, who_stays

    groups = group_numbers(len(hashes), iter_pairs(hashes, distance=6))
    stays = who_stays(groups, scores, keys)  # stays[i] == i where row i stays, else the row that stays for it

Every finder (hashes, embeddings, captions) gives pairs of row numbers, [m, 2] with the smaller one first, and gives
them in chunks: what is held is bounded however many pairs there are. Equal values are joined to the first of them and
not to each other, so a thousand copies are 999 pairs with the same groups, not half a million.

Knows arrays and texts. Does not know shards, parquet files or stages.
"""

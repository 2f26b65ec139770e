"""io: the one place for files, URLs, tar and retries. Knows names and bytes; does not know samples or runs."""

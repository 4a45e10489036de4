-- Keys are handed out one by one; multiplying by an odd constant spreads them evenly over 2^32.
and t.customer_key::bigint * 2654435761 % 4294967296 < {{ sample }}

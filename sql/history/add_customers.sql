-- Adds one row per customer never seen before. Keys follow buckets and ids: a repeated run gives the same ones, and the
-- customers of a shard have keys, and rows sorted by key, that lie together.
insert into history.customers (customer_key, programme_id, customer_id, offset_days, bucket, split, arm, batch_id)
select
    (select coalesce(max(customer_key), 0) from history.customers) + row_number() over (order by bucket, customer_id collate "C"),
    :programme_id,
    customer_id,
    case when :stagger then nba.hash63(:programme, 'offset', :salt, customer_id) % :interval_days else 0 end,
    bucket,
    case
        when arm_draw < :holdout then 'h'
        when split_draw < :learn then 'l'
        when split_draw < :learn + :select then 's'
        else 'g'
    end::"char",
    case
        when arm_draw < :holdout then 'h'
        when arm_draw < :holdout + :business_as_usual then 'b'
        else 's'
    end::"char",
    :batch_id
from (
    select
        s.customer_id,
        nba.hash63(:programme, 'shard', :salt, s.customer_id) % 1024 as bucket,
        nba.uniform(:programme, 'arm', :salt, s.customer_id) as arm_draw,
        nba.uniform(:programme, 'split', :salt, s.customer_id) as split_draw
    from staging.customers as s
    where s.batch_id = :batch_id
      and not s.quarantined
      and not exists (
          select from history.customers as k
          where k.programme_id = :programme_id and k.customer_id = s.customer_id
      )
    offset 0  -- each hash is computed once, not wherever it is used
) as new
order by bucket, customer_id collate "C"

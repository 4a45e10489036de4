    -- One row per action and stretch of time in which a contact cost the same: the newest of what was recorded and of
    -- what our own pulls found, from the night of each on. The first one known stands for all time before it.
    select
        action,
        cost,
        case when row_number() over later > 1 then known_at else '-infinity' end as starts_at,
        coalesce(lead(known_at) over later, 'infinity') as ends_at
    from (
        select h.action, nba.number(h.value) as cost, h.changed_at as known_at, h.batch_id
        from history.action_changes as h
        where h.programme_id = :programme_id
          and h.batch_id <= :batch_id and (h.superseded_by is null or h.superseded_by > :batch_id)
          and h.attribute = 'cost' and nba.number(h.value) is not null
        union all
        select v.action, v.cost, date_trunc('day', v.seen_at, '{{ zone }}'), v.batch_id
        from history.action_versions as v
        where v.programme_id = :programme_id and v.batch_id <= :batch_id
    ) as known
    where action > 0  -- doing nothing is free, whatever a catalogue says of it
    window later as (partition by action order by known_at, batch_id)
